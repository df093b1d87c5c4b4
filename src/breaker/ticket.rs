use super::gate::Gate;

/// Leave to make one call, and in which life of the breaker it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) generation: u32,
    pub(super) kind: TicketKind,
}

impl Ticket {
    /// For an ordinary call.
    #[inline]
    pub(super) const fn counted(gate: Gate) -> Self {
        Ticket { generation: gate.generation(), kind: TicketKind::Counted }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TicketKind {
    /// An ordinary call.
    Counted,
    /// One of the probes of a half-open phase.
    Probe,
    /// Let pass by a shadow breaker that would have refused it.
    Uncounted,
}
