//! The runtime of the shards: threads, sockets, and the channels between cores.
//!
//! [`start`] brings a node up: for every shard a thread with its own executor, io_uring instance and listening
//! socket, driven by a pump that carries what happens to the [core](crate::core) and does what the core asks for.
//! The runtime moves bytes and messages; it decides nothing. All `unsafe` of the data plane is here, in `wire`, each
//! block with its reason; docs/unsafe.md goes through them.
//!
//! Nothing is shared between shards but the mesh's queues, the doorbells, and the count of the node's sockets. Each has
//! a queue of its own to whoever writes the audit log, if somebody does.
//! No lock is taken after start-up.

mod audit;
mod clock;
mod doorbell;
mod error;
mod life;
mod listen;
mod mesh;
mod node;
mod preflight;
mod pump;
mod sys;
pub mod tls;
mod unix;
mod wire;

pub use audit::{AuditLane, Stamped};
pub use clock::Clock;
pub use error::{Full, StartError};
pub use listen::{Listen, UNIX_PREFIX};
pub use mesh::{Endpoint, Message, wire_up};
pub use node::{ControlLine, DrainOutcome, Node, NodeConfig, start};
pub use preflight::{Probe, preflight};
pub use tls::{ClientTls, Link, Tls};
pub use unix::{SOCKET_PATH_BYTES_MAX, SocketFile, listen_unix};

/// How a shard's wire is dimensioned: what a tuning profile decides.
#[derive(Clone, Debug)]
pub struct WireConfig {
    /// Submission queue entries: the most operations that one turn can begin.
    pub ring_entries: u32,
    /// Receive buffers, rounded up to a power of two. Shared by all connections of the shard.
    pub receive_buffers: u16,
    /// Bytes of each: what one completion can bring.
    pub receive_buffer_bytes: u32,
    /// Connections that may wait in the kernel for each listener.
    pub backlog: u32,
    /// Accepts that are out at once.
    pub accept_burst: u16,
    /// How long a shard looks for work before it sleeps, in microseconds.
    pub spin_us: u32,
    /// How long the kernel gathers completions before it wakes a shard, in microseconds, on kernels that can.
    pub batch_us: u32,
    /// Messages in one lane of the mesh; there is one for each pair of parties.
    pub mesh_queue_max: usize,
    /// What connections on the public address are secured with; nothing when they are plain.
    pub tls: Option<Tls>,
    /// What connections to model servers are secured with; nothing when they are plain.
    pub client_tls: Option<ClientTls>,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            ring_entries: 4_096,
            receive_buffers: 256,
            receive_buffer_bytes: 16_384,
            backlog: 4_096,
            accept_burst: 32,
            spin_us: 0,
            batch_us: 0,
            mesh_queue_max: 1_024,
            tls: None,
            client_tls: None,
        }
    }
}
