//! Cores, NUMA nodes, network cards and their interrupts.

use super::tree::Tree;

/// One online core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// The threads of the same physical core, itself included.
    pub siblings: Vec<usize>,
    /// Its frequency governor; `None` where the host shows none, as in most virtual machines.
    pub governor: Option<String>,
}

/// A network card with hardware behind it. Loopback, bridges and tunnels are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// The interface's name.
    pub name: String,
    /// Its interrupts that carry packets or may do so.
    pub interrupts: Vec<Interrupt>,
    /// Its receive queues.
    pub receive_queues: usize,
    /// The cores that receive packet steering (RPS) hands its packets to, over all queues.
    pub rps_cores: Vec<usize>,
}

/// One interrupt line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: usize,
    /// The cores it is delivered to.
    pub cores: Vec<usize>,
}

const CPU: &str = "sys/devices/system/cpu";

pub(super) fn read_cores(tree: &Tree, online: &[usize]) -> Vec<Core> {
    online
        .iter()
        .map(|&id| Core {
            id,
            siblings: tree
                .list(&format!("{CPU}/cpu{id}/topology/thread_siblings_list"))
                .filter(|siblings| siblings.contains(&id))
                .unwrap_or_else(|| vec![id]),
            governor: tree.text(&format!("{CPU}/cpu{id}/cpufreq/scaling_governor")),
        })
        .collect()
}

/// The cores of each NUMA node.
pub(super) fn read_nodes(tree: &Tree) -> Vec<Vec<usize>> {
    tree.numbered("sys/devices/system/node", "node")
        .into_iter()
        .filter_map(|node| tree.list(&format!("sys/devices/system/node/node{node}/cpulist")))
        .filter(|cores| !cores.is_empty())
        .collect()
}

pub(super) fn read_nics(tree: &Tree) -> Vec<Nic> {
    tree.names("sys/class/net")
        .into_iter()
        .filter(|name| tree.exists(&format!("sys/class/net/{name}/device")))
        .map(|name| read_nic(tree, name))
        .collect()
}

fn read_nic(tree: &Tree, name: String) -> Nic {
    let queues = format!("sys/class/net/{name}/queues");
    let receive = tree.numbered(&queues, "rx-");
    let mut rps_cores: Vec<usize> = receive
        .iter()
        .filter_map(|queue| tree.mask(&format!("{queues}/rx-{queue}/rps_cpus")))
        .flatten()
        .collect();
    rps_cores.sort_unstable();
    rps_cores.dedup();
    Nic { interrupts: read_interrupts(tree, &name), receive_queues: receive.len(), rps_cores, name }
}

/// A card's interrupts are listed with its PCI device; a virtio card is a child of that device.
fn read_interrupts(tree: &Tree, nic: &str) -> Vec<Interrupt> {
    let own = tree.numbered(&format!("sys/class/net/{nic}/device/msi_irqs"), "");
    let numbers = if own.is_empty() {
        tree.numbered(&format!("sys/class/net/{nic}/device/../msi_irqs"), "")
    } else {
        own
    };
    numbers
        .into_iter()
        .filter(|number| !is_housekeeping(tree, *number))
        .filter_map(|number| {
            let cores = tree
                .list(&format!("proc/irq/{number}/effective_affinity_list"))
                .filter(|cores| !cores.is_empty())
                .or_else(|| tree.list(&format!("proc/irq/{number}/smp_affinity_list")))?;
            Some(Interrupt { number, cores })
        })
        .collect()
}

/// Whether the interrupt only tells of changes to the card itself. Its name is a folder beside its settings.
fn is_housekeeping(tree: &Tree, interrupt: usize) -> bool {
    tree.names(&format!("proc/irq/{interrupt}"))
        .iter()
        .any(|name| name.ends_with("-config") || name.contains("async"))
}
