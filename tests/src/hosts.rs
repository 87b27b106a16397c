//! Hosts with addresses of their own on one network, which can be cut, be lossy, and give a host another address. Needs
//! root, `ip` (iproute2), `nft` (nftables) and util-linux.
//!
//! A host is a network namespace that lives as long as a process that does nothing; another one is the switch. These
//! processes end with the test, however it ends, and everything that was made goes with them. The test itself joins a
//! host: what it starts from that thread later on, and whom it connects to, is on that host's network.

use crate::{Daemon, daemon, wait};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Programs that a test with hosts needs.
pub const TOOLS: &[&str] = &["ip", "nft", "nsenter", "unshare", "setpriv", "mount"];

/// Some hosts on one network.
pub struct Hosts {
    hosts: Vec<Host>,
    _switch: Keeper,
    folder: TempDir,
}

/// One of them.
pub struct Host {
    keeper: Keeper,
    address: String,
    /// Its `/etc/hosts`, and so all that it knows of names.
    names: PathBuf,
}

/// A process that keeps a network namespace.
struct Keeper(Daemon);

impl Hosts {
    /// So many hosts that can all reach each other.
    pub fn new(count: u8) -> Hosts {
        let folder = tempfile::Builder::new().prefix("taskq-hosts-").tempdir().expect("a temporary folder");
        let switch = Keeper::start(folder.path(), "switch");
        switch.ip(&["link", "add", "switch", "type", "bridge"]);
        switch.ip(&["link", "set", "switch", "up"]);
        let hosts = (0..count).map(|number| Host::plug(&switch, folder.path(), number)).collect();
        Hosts { hosts, _switch: switch, folder }
    }

    /// One of them, from 0.
    pub fn at(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// From now on nothing that `from` sends arrives at `to`.
    pub fn cut(&self, from: usize, to: usize) {
        self.hosts[to].filter(&["ip", "saddr", &self.hosts[from].address, "drop"]);
    }

    /// From now on so many of a hundred packets are lost on the way to each host.
    pub fn lose(&self, percent: u8) {
        for host in &self.hosts {
            host.filter(&["numgen", "random", "mod", "100", "<", &percent.to_string(), "drop"]);
        }
    }

    /// Everything arrives again.
    pub fn heal(&self) {
        for host in &self.hosts {
            host.keeper.run("nft", &["flush", "chain", "inet", "test", "arriving"]);
        }
    }

    /// Gives a host another address; connections to the former one are dead from now on, and nobody is told.
    pub fn readdress(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let new = format!("10.77.0.{}", 100 + number);
        host.keeper.ip(&["addr", "del", &format!("{}/24", host.address), "dev", "eth0"]);
        host.keeper.ip(&["addr", "add", &format!("{new}/24"), "dev", "eth0"]);
        host.address = new;
        // Who knew the former address asks the network anew.
        for host in &self.hosts {
            host.keeper.ip(&["neigh", "flush", "dev", "eth0"]);
        }
    }

    /// Moves the calling thread, and what it starts from now on, to a host.
    pub fn join(&self, number: usize) {
        let namespace = fs::File::open(self.hosts[number].keeper.namespace()).expect("open a namespace");
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), network).expect("enter a namespace");
    }

    /// Where the hosts' own files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Host {
    fn plug(switch: &Keeper, folder: &Path, number: u8) -> Host {
        let keeper = Keeper::start(folder, &format!("host-{number}"));
        let (port, pid) = (format!("port{number}"), keeper.0.pid().to_string());
        switch.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        switch.ip(&["link", "set", &port, "master", "switch", "up"]);
        let address = format!("10.77.0.{}", 1 + number);
        keeper.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        keeper.ip(&["link", "set", "eth0", "up"]);
        keeper.ip(&["link", "set", "lo", "up"]);
        keeper.run("nft", &["add", "table", "inet", "test"]);
        let hook = "{ type filter hook input priority 0; }";
        keeper.run("nft", &["add", "chain", "inet", "test", "arriving", hook]);
        let names = folder.join(format!("names-{number}"));
        fs::write(&names, "127.0.0.1 localhost\n").expect("write a host's names");
        Host { keeper, address, names }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on the host knows this name; of what it knew before it keeps `localhost`.
    pub fn knows(&self, name: &str, address: &str) {
        // In place: programs that run there see this very file as theirs.
        fs::write(&self.names, format!("127.0.0.1 localhost\n{address} {name}\n")).expect("write names");
    }

    /// A program on this host, on a leash.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = daemon::leashed(Path::new("nsenter"));
        command.arg(format!("--net={}", self.keeper.namespace()));
        command.args(["unshare", "--mount", "--", "sh", "-c"]);
        command.arg(r#"mount --bind "$0" /etc/hosts && exec "$@""#).arg(&self.names).arg(program);
        command
    }

    /// The same as words before a program of its own.
    pub fn wrapper(&self) -> [String; 3] {
        ["nsenter".to_owned(), format!("--net={}", self.keeper.namespace()), "--".to_owned()]
    }

    fn filter(&self, rule: &[&str]) {
        self.keeper.run("nft", &[&["add", "rule", "inet", "test", "arriving"], rule].concat());
    }
}

impl Keeper {
    fn start(folder: &Path, name: &str) -> Keeper {
        let mut command = daemon::leashed(Path::new("unshare"));
        command.args(["--net", "--", "sh", "-c", "echo here; exec sleep infinity"]);
        let keeper = Keeper(Daemon::start(name, &folder.join(format!("{name}.log")), command));
        wait::holds("a namespace is there", || keeper.0.log() == "here\n");
        keeper
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.0.pid())
    }

    fn ip(&self, words: &[&str]) {
        self.run("ip", words);
    }

    /// Runs a program in the namespace; what it said.
    fn run(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).arg(program).args(words);
        let done = command.output().expect("nsenter runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {}: {} {said}", words.join(" "), done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}
