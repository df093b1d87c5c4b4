#!/usr/bin/env python3
"""Merges results/*.tsv into one report in Markdown (release = main numbers, lto = second column)."""
import csv, os, collections
R = "results"
def rd(f):
    p = f"{R}/{f}.tsv"
    return list(csv.DictReader(open(p), delimiter="\t")) if os.path.exists(p) else []
key = lambda r: (r["group"], r["crate"], r["variant"])
b = {key(r): r for r in rd("release-bench") if r["group"] != "d scaling"}
scal = {p: [r for r in rd(f"{p}-bench") if r["group"] == "d scaling"] for p in ("release", "lto")}
l = {key(r): r for r in rd("lto-bench")}
a = {key(r): r for r in rd("release-allocs")}
i = {key(r): r for r in rd("release-icount")}
il = {key(r): r for r in rd("lto-icount")}
med = lambda d, k: float(d[k]["median"]) if k in d else None
bare_k = ("n baseline", "-", "bare inner call")
bare, bare_l = med(b, bare_k), med(l, bare_k)
PEERLESS = {"-", "floor", "std", "libc", "parking_lot", "quanta", "minstant", "fastant", "tick", "crossbeam-epoch", "tokio"}
def isdiy(v): return "DIY" in v or "no breaker" in v or v == "LoadShed only"
def f(x, n=1): return "-" if x is None else f"{x:.{n}f}"
out = ["# Results", ""]
for p in ("release", "lto"):
    m = f"{R}/{p}-meta.txt"
    if os.path.exists(m): out.append("- " + open(m).read().strip())
out += ["- cpu: " + next(x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")) + f", {os.cpu_count()} cpus (KVM), clocksource tsc, glibc malloc",
"- ns = median over 31 interleaved rounds; `release` = cargo's default release profile, `lto` = fat LTO + 1 codegen unit",
"- `+ns` = ns minus the bare inner call under the same driver; `x bare` = ns / bare; `x best` = ns / best peer of the table (floors and DIY rows excluded)",
"- instr = (I(2N)-I(N))/N under callgrind (its vDSO is off: a precise clock read counts as a ~10-instruction syscall, so clock-heavy rows are under-counted by ~60 per read)", ""]
groups = collections.OrderedDict()
for k in b: groups.setdefault(k[0], []).append(k)
for g, ks in groups.items():
    peers = [med(b, k) for k in ks if k[1] not in PEERLESS and not isdiy(k[2])]
    best = min(peers) if peers else None
    out += [f"## {g}", "", "| crate | variant | ns release | ns lto | +ns | x bare | x best | instr | instr lto | allocs | bytes | future B |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for k in ks:
        ns = med(b, k); al = a.get(k, {})
        fut = b[k]["fut_size"]; fut = "-" if fut in ("0", "") else fut
        out.append("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |".format(
            k[1], k[2], f(ns, 2), f(med(l, k), 2), f(ns - bare), f(ns / bare), f(ns / best, 2) if best else "-",
            f(float(i[k]["instr"]), 0) if k in i else "-", f(float(il[k]["instr"]), 0) if k in il else "-",
            f(float(al["allocs"]), 0) if al else "-", f(float(al["bytes"]), 0) if al else "-", fut))
    out.append("")
    if g.startswith("d "):
        out += ["tower-resilience's time window, cost vs records held in the window:", "", "| records | ns/call release | ns/call lto |", "|--:|--:|--:|"]
        for x, y in zip(scal["release"], scal["lto"] or scal["release"]):
            out.append(f"| {x['variant']} | {x['median']} | {y['median']} |")
        out.append("")
out += ["## c breaker closed, 1 vs 2 threads on one shared breaker", ""]
for p in ("release", "lto"):
    fn = f"{R}/{p}-contend.md"
    if os.path.exists(fn): out += [f"### {p}", "", open(fn).read(), ""]
fn = f"{R}/release-pitfalls.txt"
if os.path.exists(fn): out += ["## behaviour checks (bin pitfalls)", "", "```", open(fn).read().rstrip(), "```", ""]
print("\n".join(out))
