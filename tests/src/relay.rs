//! A TCP relay that stands for the network between a device and its server: it counts, and it can be cut.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// A relay from a free loopback port to another port of this machine.
pub struct Relay {
    /// Where to connect.
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    cut: AtomicBool,
    /// Bytes that came from the server.
    passed: AtomicU64,
    /// Cuts itself when as many have come.
    cut_at: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Relays to `upstream`, until it is cut.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("has an address").port();
        let shared = Arc::new(Shared {
            cut: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        // It ends with the process: a test has few of them.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.relay(client, upstream);
            }
        });
        Self { port, shared }
    }

    /// Closes every connection, and every new one at once.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts itself when this many bytes have come from the server.
    pub fn cut_at(&self, bytes: u64) {
        self.shared.cut_at.store(bytes, Ordering::SeqCst);
    }

    /// Bytes that have come from the server.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Whether it is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().expect("no panic").drain(..) {
            // One that is closed already needs no closing.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Relays one connection, in threads that end with it; nothing of it is there when the server cannot be reached.
    fn relay(self: &Arc<Self>, client: TcpStream, upstream: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { return };
        let both = |stream: &TcpStream| (stream.try_clone(), stream.try_clone());
        let ((Ok(from_client), Ok(to_client)), (Ok(from_server), Ok(to_server))) =
            (both(&client), both(&server))
        else {
            return;
        };
        self.open.lock().expect("no panic").extend([client, server]);
        if self.cut.load(Ordering::SeqCst) {
            return self.cut();
        }
        let shared = Arc::clone(self);
        thread::spawn(move || copy(from_client, to_server, |_| {}));
        thread::spawn(move || copy(from_server, to_client, |bytes| shared.count(bytes)));
    }

    fn count(&self, bytes: u64) {
        let passed = self.passed.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if passed >= self.cut_at.load(Ordering::SeqCst) {
            self.cut();
        }
    }
}

/// Copies until either side ends; then both do.
fn copy(mut from: TcpStream, mut to: TcpStream, count: impl Fn(u64)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        count(len as u64);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
