"""A real Slurm on one machine: munged, accounting, slurmctld and five slurmd, two of them with fake GPUs.

It must run inside the namespaces that tests/slurm/run.sh makes: the configuration is mounted over /etc/slurm
there, every node has a host name of its own, and the kernel ends every process when the namespace's first one ends.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.accounting import Accounting
from tests.slurm.daemons import command, end, free_ports, host_name, kill, processes, wait_for

CPU_NODES, GPU_NODES = ("n1", "n2", "n3"), ("g1", "g2")
NODES = (*CPU_NODES, *GPU_NODES)
GPUS = 2  # on each GPU node

SLURM_CONF = """\
ClusterName=castalia
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits for its old credential to end, two minutes by default
AuthInfo=socket={run}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd-%n.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd-%n.log
# what containers and machines without systemd can do
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting.port}
AccountingStoragePass={run}/munge.socket
AccountingStoreFlags=job_comment
MpiDefault=none
SwitchType=switch/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# more cores and memory than the machine has
SlurmdParameters=config_overrides
# seconds instead of minutes
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=2,bf_interval=2,requeue_delay=1
SlurmdTimeout=10
KillWait=10
OverTimeLimit=0
ReturnToService=2
# squeue still knows a job that ended a day ago: the tests ask it, and where there is no accounting the profile too
MinJobAge=86400
{nodes}
# two jobs run on two nodes, so that one can lose its own
PartitionName=cpu Nodes={cpu} Default=YES MaxTime=1-0 State=UP LLN=YES
PartitionName=gpu Nodes={gpu} MaxTime=1-0 State=UP
"""


class Cluster:
    """The daemons and what tests do to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc, self.run, self.log, self.state, self.devices = (
            root / name for name in ("etc", "run", "log", "state", "dev")
        )
        self.ports = free_ports(2 + len(NODES))
        self.accounting = Accounting(root, self.ports[1])
        # for commands to which this cluster shall look like one without accounting: SLURM_CONF
        self.without_accounting = self.etc / "without-accounting.conf"

    # --- start and stop ---------------------------------------------------------------------------

    def start(self) -> None:
        """Write the configuration, mount it, start the daemons, wait for every node to be idle."""
        for folder in (self.etc, self.run, self.log, self.state / "ctld", self.devices):
            folder.mkdir(parents=True)
        self._configure()
        subprocess.run(["mount", "--bind", str(self.etc), "/etc/slurm"], check=True)
        subprocess.run(["mount", "--bind", str(self.etc / "hosts"), "/etc/hosts"], check=True)
        subprocess.run(
            [
                "munged",
                "--force",
                f"--key-file={self.etc}/munge.key",
                f"--socket={self.run}/munge.socket",
                f"--pid-file={self.run}/munged.pid",
                f"--log-file={self.log}/munged.log",
                f"--seed-file={self.state}/munged.seed",
            ],
            check=True,
        )
        self.accounting.start()
        subprocess.run(["sacctmgr", "--immediate", "add", "cluster", "castalia"], check=True, capture_output=True)
        subprocess.run(["slurmctld"], check=True)
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"), 60, "idle nodes")

    def _configure(self) -> None:
        lines = [
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=64000"
            + (f" Gres=gpu:h100:{GPUS} Feature=h100" if node in GPU_NODES else "")
            for node, port in zip(NODES, self.ports[2:], strict=True)
        ]
        folders = {name: getattr(self, name) for name in ("run", "log", "state")}
        text = SLURM_CONF.format(
            port=self.ports[0],
            accounting=self.accounting,
            nodes="\n".join(lines),
            cpu=",".join(CPU_NODES),
            gpu=",".join(GPU_NODES),
            **folders,
        )
        (self.etc / "slurm.conf").write_text(text)
        self.without_accounting.write_text(re.sub("^AccountingStor.*\n", "", text, flags=re.MULTILINE))
        self.accounting.configure()
        (self.etc / "gres.conf").write_text(
            f"NodeName={','.join(GPU_NODES)} Name=gpu Type=h100 File={self.devices}/nvidia[0-{GPUS - 1}]\n"
        )
        (self.etc / "hosts").write_text(
            Path("/etc/hosts").read_text() + "".join(f"\n127.0.0.1 {node}" for node in NODES) + "\n"
        )
        (self.etc / "munge.key").write_bytes(os.urandom(1024))
        (self.etc / "munge.key").chmod(0o600)
        self.run.chmod(0o755)
        for index in range(GPUS):  # copies of /dev/null: a GPU that no device file stands for is not bound
            os.mknod(self.devices / f"nvidia{index}", 0o20666, os.makedev(1, 3))

    def stop(self) -> None:
        """End jobs and daemons, by their pid files."""
        command("scancel", "--user=root")
        end([self.run / f"slurmd-{node}.pid" for node in NODES])
        end([self.run / "slurmctld.pid"])
        self.accounting.stop()
        end([self.run / "munged.pid"])
        for place in ("/etc/slurm", "/etc/hosts"):
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(self.root)

    # --- controller -------------------------------------------------------------------------------

    def kill_controller(self) -> None:
        """Let slurmctld and slurmdbd die: jobs go on, and no command of Slurm gets an answer."""
        kill(int((self.run / "slurmctld.pid").read_text()))
        self.accounting.kill()

    @contextmanager
    def held_controller(self) -> Iterator[None]:
        """Hold slurmctld still: it takes what it is sent, and answers only afterwards."""
        pid = int((self.run / "slurmctld.pid").read_text())
        kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            kill(pid, signal.SIGCONT)

    def start_controller(self) -> None:
        """Start them again, with the state they left."""
        self.accounting.start_slurmdbd()
        subprocess.run(["slurmctld"], check=True)
        wait_for(self.states, 60, "answer of the controller")

    # --- nodes ------------------------------------------------------------------------------------

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, under the node's own host name."""
        script = 'hostname "$0" && exec slurmd -N "$0"'
        subprocess.run(["unshare", "--uts", "sh", "-c", script, node], check=True)

    def kill_node(self, node: str, *, with_jobs: bool) -> None:
        """Let a node go down: its slurmd and, as in a power cut, all that runs there, or as in a lost network not."""
        hosts = [pid for pid in processes() if host_name(pid) == node]
        slurmd = int((self.run / f"slurmd-{node}.pid").read_text())
        for pid in hosts if with_jobs else [slurmd]:
            kill(pid)

    def states(self) -> dict[str, str]:
        """State of every node."""
        lines = command("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    # --- jobs -------------------------------------------------------------------------------------

    def jobs(self) -> dict[str, tuple[str, str, str]]:
        """State, comment (the plugin's: rule and wildcards) and nodes of every job so far, by number."""
        lines = command("squeue", "--noheader", "--states=all", "--format=%i|%T|%k|%N").splitlines()
        return {line.split("|")[0]: tuple(line.split("|")[1:]) for line in lines}  # type: ignore[misc]

    def submitted_since(self, before: set[str]) -> list[str]:
        """Rules and wildcards of the jobs submitted since."""
        return sorted(name for number, (_, name, _) in self.jobs().items() if number not in before)

    def ends(self, numbers: Iterable[str]) -> list[str]:
        """States of ended jobs, in this order; Snakemake knows of an end before Slurm has freed the node, and one that
        found the files there may even end before the job that wrote them."""
        asked = list(numbers)

        def ended() -> bool:
            jobs = self.jobs()
            completing = "COMPLETING" in {state for state, _, _ in jobs.values()}
            return not completing and "RUNNING" not in {jobs[number][0] for number in asked}

        wait_for(ended, 120, "end of all jobs")
        jobs = self.jobs()
        return [jobs[number][0] for number in asked]

    def running(self, rule: str) -> list[str]:
        """Numbers of the running jobs of a rule."""
        return [number for number, (state, name, _) in self.jobs().items() if state == "RUNNING" and rule in name]
