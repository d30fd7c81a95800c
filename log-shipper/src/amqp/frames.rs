//! Reads and writes frames (AMQP 0-9-1, section 4.2.3).

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties, Publish};
use amq_protocol::protocol::{AMQPClass, constants};
use amq_protocol::types::FieldTable;

use super::error::ConnectionError;
use crate::outgoing::MessageId;

/// The channel for all messages.
pub(super) const CHANNEL: u16 = 1;

/// The type, channel and length before a frame's payload, and the end mark after it.
const FRAME_OVERHEAD: usize = 8;

/// The frame size limit before it is negotiated (`frame-min-size`, plus room for what brokers really send first).
pub(super) const FIRST_FRAME_MAX: usize = 64 * 1024;

/// The smallest limit that a peer may request (`frame-min-size`).
pub(super) const LEAST_FRAME_MAX: u32 = 4096;

/// Appends a frame.
pub(super) fn write(frame: &AMQPFrame, out: &mut Vec<u8>) -> Result<(), ConnectionError> {
    let context = gen_frame(frame)(WriteContext::from(Vec::new()));
    let (bytes, _) = context.map_err(|error| ConnectionError::Codec(error.to_string()))?.into_inner();
    out.extend_from_slice(&bytes);
    Ok(())
}

/// The bytes that open an AMQP connection.
pub(super) fn protocol_header() -> AMQPFrame {
    AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())
}

/// The first frame in `bytes`, and its length; `None` if it is incomplete.
pub(super) fn read(bytes: &[u8], frame_max: usize) -> Result<Option<(AMQPFrame, usize)>, ConnectionError> {
    if let Some(error) = foreign(bytes) {
        return Err(error);
    }
    let Some(length) = bytes.get(3..7).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
        return Ok(None);
    };
    let whole = length as usize + FRAME_OVERHEAD;
    if whole > frame_max {
        return Err(ConnectionError::Codec(format!(
            "the broker sent a frame of {whole} bytes, but {frame_max} were negotiated"
        )));
    }
    let Some(frame) = bytes.get(..whole) else { return Ok(None) };
    match parse_frame(frame) {
        Ok(([], frame)) => Ok(Some((frame, whole))),
        _ => Err(ConnectionError::Codec("the broker sent a frame that can't be read".into())),
    }
}

/// The error for an answer that is not a frame (AMQP 0-9-1, section 4.2.3; TLS alerts: RFC 8446, section 6).
fn foreign(bytes: &[u8]) -> Option<ConnectionError> {
    let message = match bytes {
        []
        | [
            constants::FRAME_METHOD | constants::FRAME_HEADER | constants::FRAME_BODY | constants::FRAME_HEARTBEAT,
            ..,
        ] => {
            return None;
        }
        [b'A', b'M', b'Q', b'P', id, major, minor, revision, ..] => {
            format!("the broker speaks another version of AMQP ({id} {major}.{minor}.{revision}); 0-9-1 is required")
        }
        [b'A'] | [b'A', b'M'] | [b'A', b'M', b'Q', ..] if bytes.len() < 8 => return None,
        [0x15, 0x03, ..] => "the port speaks TLS: use amqps:// in AMQP_URL".to_owned(),
        [0x15] => return None,
        [b'H', b'T', b'T', b'P', ..] => {
            "the port speaks HTTP, not AMQP; the broker's port is 5672 or 5671 by default".to_owned()
        }
        _ if bytes.len() < 4 => return None,
        _ => {
            let began = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).escape_debug().to_string();
            format!("the port does not speak AMQP 0-9-1: its answer begins with \"{began}\"")
        }
    };
    Some(ConnectionError::Protocol(message))
}

/// The frames before a message's body, prepared once. Only the body size and the message id change.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    body_size_at: usize,
    id_at: usize,
}

impl Template {
    /// A template for persistent, mandatory JSON messages to this exchange.
    pub(super) fn new(exchange: &str, routing_key: &str, headers: FieldTable) -> Result<Self, ConnectionError> {
        let publish =
            Publish { exchange: exchange.into(), routing_key: routing_key.into(), mandatory: true, immediate: false };
        let mut bytes = Vec::new();
        write(&AMQPFrame::Method(CHANNEL, AMQPClass::Basic(AMQPMethod::Publish(publish))), &mut bytes)?;
        // Header frame: type, channel, length, then class, weight and body size.
        let body_size_at = bytes.len() + 7 + 4;
        let placeholder = [0xFE_u8; MessageId::LENGTH].map(|_| '#').iter().collect::<String>();
        let properties = AMQPProperties::default()
            .with_content_type("application/json".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_message_id(placeholder.as_str().into());
        write(&AMQPFrame::Header(CHANNEL, AMQPContentHeader { class_id: 60, body_size: 0, properties }), &mut bytes)?;
        let id_at = memchr::memmem::rfind(&bytes, placeholder.as_bytes())
            .ok_or_else(|| ConnectionError::Codec("the message id is not where it was put".into()))?;
        Ok(Self { bytes, body_size_at, id_at })
    }

    /// Appends a message; its body is split into frames of at most `frame_max` bytes.
    pub(super) fn write(&self, id: &MessageId, body: &[u8], frame_max: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start + self.body_size_at..][..8].copy_from_slice(&(body.len() as u64).to_be_bytes());
        let mut text = [0; MessageId::LENGTH];
        id.write(&mut text);
        out[start + self.id_at..][..MessageId::LENGTH].copy_from_slice(&text);
        for part in body.chunks(frame_max - FRAME_OVERHEAD) {
            out.push(constants::FRAME_BODY);
            out.extend_from_slice(&CHANNEL.to_be_bytes());
            out.extend_from_slice(&(part.len() as u32).to_be_bytes());
            out.extend_from_slice(part);
            out.push(constants::FRAME_END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_the_codec_reads() {
        let template = Template::new("logs", "key", FieldTable::default()).unwrap();
        let id = MessageId { file: 7, offset: 9 };
        let mut out = Vec::new();
        template.write(&id, b"0123456789", 8 + 4, &mut out);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some((frame, length)) = read(&out[at..], 4096).unwrap() {
            frames.push(frame);
            at += length;
        }
        assert_eq!((at, frames.len()), (out.len(), 5));
        let AMQPFrame::Header(_, header) = &frames[1] else { panic!("{frames:?}") };
        assert_eq!(header.body_size, 10);
        assert_eq!(header.properties.message_id().as_ref().unwrap().as_str(), id.text());
        let body: Vec<u8> = frames[2..]
            .iter()
            .flat_map(|frame| match frame {
                AMQPFrame::Body(_, part) => part.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(body, b"0123456789");
    }

    #[test]
    fn torn_frames_wait_and_huge_or_foreign_ones_end_the_connection() {
        let mut out = Vec::new();
        write(&AMQPFrame::Heartbeat, &mut out).unwrap();
        for end in 0..out.len() {
            assert!(read(&out[..end], 4096).unwrap().is_none());
        }
        assert!(read(&out, 4096).unwrap().is_some());
        assert!(read(&[1, 0, 1, 0xFF, 0, 0, 0], 4096).is_err());
        assert!(read(b"AMQP\0\0\x09\x01", 4096).is_err());
        assert!(read(&[9, 0, 0, 0, 0, 0, 0, 0xCE], 4096).is_err());
    }

    #[test]
    fn an_answer_in_another_protocol_is_named() {
        for (bytes, expected) in [
            (&b"\x15\x03\x03\0\x02\x02\x0a"[..], "amqps://"),
            (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
            (b"AMQP\x00\x01\x00\x00", "another version"),
            (b"SSH-2.0-OpenSSH_9.2", "SSH-2.0"),
            (b"220 mail.example.org", "220 mail"),
        ] {
            let error = read(bytes, 4096).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(read(&bytes[..1], 4096).unwrap().is_none(), "{error}");
        }
    }
}
