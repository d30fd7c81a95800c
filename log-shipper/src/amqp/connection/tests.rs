use amq_protocol::protocol::{
    confirm, connection::AMQPMethod as OfConnection, exchange, exchange::AMQPMethod as OfExchange,
};
use amq_protocol::types::FieldTable;
use sidecar::secret::{Secret, SecretSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::amqp::{Address, Auth, RoutingKey};

fn endpoint() -> Endpoint {
    let password = SecretSource::Value(Secret::new("p"));
    Endpoint {
        tls: false,
        server_name: None,
        certificate: None,
        auth: Auth::Password { user: "u".into(), password },
        virtual_host: "/".into(),
        exchange: "logs".into(),
        routing_key: RoutingKey::parse("key").unwrap(),
        dead_letter_exchange: None,
        heartbeat: Duration::from_secs(30),
    }
}

/// A broker that sends all its frames at once, whatever it receives.
async fn broker(frame_max: u32, then: Vec<AMQPFrame>) -> (Address, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: FieldTable::default(),
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    };
    let on = |channel: u16, method: AMQPClass| AMQPFrame::Method(channel, method);
    let declared = exchange::DeclareOk {};
    let mut frames = vec![
        on(0, AMQPClass::Connection(OfConnection::Start(start))),
        on(0, AMQPClass::Connection(OfConnection::Tune(connection::Tune { channel_max: 0, frame_max, heartbeat: 0 }))),
        on(0, AMQPClass::Connection(OfConnection::OpenOk(connection::OpenOk {}))),
        on(1, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))),
        on(1, AMQPClass::Exchange(OfExchange::DeclareOk(declared))),
        on(1, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))),
    ];
    frames.extend(then);
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frames::write(frame, &mut bytes).unwrap());
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        heard
    });
    (Address { host: "127.0.0.1".into(), port }, serving)
}

fn container() -> Container {
    Container { pod: None, docker: None, restart: "0".into() }
}

#[tokio::test]
async fn a_broker_that_asks_for_absurdly_small_frames_gets_the_smallest_there_are() {
    for frame_max in [1, 8, 100, 4095] {
        let (address, serving) = broker(frame_max, Vec::new()).await;
        let mut connection = Connection::open(&address, &endpoint(), &mut |_, _| ()).await.unwrap();
        let id = MessageId { file: 1, offset: 2 };
        connection.publish(&endpoint(), (1, &container()), id, &[b'x'; 10_000], false).unwrap();
        while connection.progress().await.is_ok() {}
        drop(connection);
        let heard = serving.await.unwrap();
        let whole = heard.windows(4088).filter(|bytes| bytes.iter().all(|byte| *byte == b'x')).count();
        assert_eq!(whole, 2, "of 10,000 bytes two frames of 4,096 are full");
    }
}

#[tokio::test]
async fn events_of_the_broker_come_in_order_without_ids_that_are_not_ours() {
    let id = MessageId { file: 1, offset: 2 };
    let returned = |id: &str| {
        let method = basic::Return {
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
            exchange: "logs".into(),
            routing_key: "key".into(),
        };
        let properties = basic::AMQPProperties::default().with_message_id(id.into());
        let header = amq_protocol::frame::AMQPContentHeader { class_id: 60, body_size: 0, properties };
        [AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Return(method))), AMQPFrame::Header(1, header)]
    };
    let ack = basic::Ack { delivery_tag: u64::MAX, multiple: true };
    let close =
        channel::Close { reply_code: 406, reply_text: "PRECONDITION_FAILED".into(), class_id: 60, method_id: 40 };
    let mut then: Vec<_> = [returned(&id.text()), returned("somebody else's")].concat();
    then.push(AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))));
    then.push(AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close))));
    let (address, _serving) = broker(0, then).await;
    let mut connection = Connection::open(&address, &endpoint(), &mut |_, _| ()).await.unwrap();
    while connection.progress().await.is_ok() {}
    let events: Vec<_> = std::iter::from_fn(|| connection.event()).collect();
    let refusal = Refusal { code: 406, text: "PRECONDITION_FAILED".into(), method: (60, 40) };
    let wanted = [Event::Returned(id), Event::Ack(u64::MAX, true), Event::ChannelClosed(refusal)];
    assert_eq!(events, wanted);
}
