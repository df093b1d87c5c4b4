//! As much of a broker as takes two messages, and an order of its answers that RabbitMQ gives at times.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// Takes one connection, and says where. Of two messages published there these come back to their
/// publisher; then these are confirmed, and it hangs up if those are not all.
pub fn start(returned: &'static [u8], confirmed: &'static [u8]) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept()?.0, returned, confirmed));
    format!("amqp://{address}/%2f")
}

fn serve(stream: TcpStream, returned: &[u8], confirmed: &[u8]) -> io::Result<()> {
    let mut line = Line(stream);
    line.0.read_exact(&mut [0; 8])?;
    // Connection.Start: 0-9, no properties.
    line.method(0, 10, 10, b"\x00\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US")?;
    let mut headers = Vec::new();
    let mut bodies = Vec::new();
    loop {
        let (kind, channel, payload) = line.read()?;
        match (kind, payload.get(..4).unwrap_or_default()) {
            // StartOk: Tune, to 100 channels, frames of 128 KiB and no heartbeat.
            (METHOD, [0, 10, 0, 11]) => line.method(0, 10, 30, b"\0\x64\0\x02\0\0\0\0")?,
            // Open
            (METHOD, [0, 10, 0, 40]) => line.method(0, 10, 41, b"\0")?,
            // Channel.Open
            (METHOD, [0, 20, 0, 10]) => line.method(channel, 20, 11, b"\0\0\0\0")?,
            // Confirm.Select
            (METHOD, [0, 85, 0, 10]) => line.method(channel, 85, 11, b"")?,
            (HEADER, _) => headers.push(payload),
            (BODY, _) => {
                bodies.push(payload);
                if bodies.len() == 2 {
                    for number in returned {
                        let index = usize::from(*number) - 1;
                        // Return: NO_ROUTE, of the default exchange.
                        line.method(channel, 60, 50, b"\x01\x38\x08NO_ROUTE\0\0")?;
                        line.write(HEADER, channel, &headers[index])?;
                        line.write(BODY, channel, &bodies[index])?;
                    }
                    for number in confirmed {
                        line.method(channel, 60, 80, &[0, 0, 0, 0, 0, 0, 0, *number, 0])?;
                    }
                    if confirmed.len() < 2 {
                        return Ok(());
                    }
                }
            }
            _ => {}
        }
    }
}

struct Line(TcpStream);

impl Line {
    fn read(&mut self) -> io::Result<(u8, u16, Vec<u8>)> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head)?;
        let [kind, channel @ .., a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut payload = vec![0; length + 1];
        self.0.read_exact(&mut payload)?;
        assert_eq!(payload.pop(), Some(END));
        Ok((kind, u16::from_be_bytes(channel), payload))
    }

    fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        frame.push(END);
        self.0.write_all(&frame)
    }

    fn method(&mut self, channel: u16, class: u8, method: u8, fields: &[u8]) -> io::Result<()> {
        self.write(METHOD, channel, &[&[0, class, 0, method], fields].concat())
    }
}
