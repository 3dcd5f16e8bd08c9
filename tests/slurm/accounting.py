"""Slurm's accounting on one machine: MariaDB, which nobody but slurmdbd can ask, and slurmdbd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.slurm.daemons import command, end, kill, wait_for

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={run}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={run}/slurmdbd.pid
LogFile={log}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


class Accounting:
    """The two daemons under a cluster's folder; `port` is slurmdbd's."""

    def __init__(self, root: Path, port: int) -> None:
        self.port, self.run, self.log, self.data = port, root / "run", root / "log", root / "state/mariadb"
        self.socket = self.run / "mariadb.socket"
        self.configuration = root / "etc/slurmdbd.conf"

    def configure(self) -> None:
        """Write what slurmdbd reads."""
        self.configuration.write_text(SLURMDBD_CONF.format(run=self.run, log=self.log, port=self.port))
        self.configuration.chmod(0o600)

    def start(self) -> None:
        """Make an empty database and start both daemons."""
        base = ["--no-defaults", f"--datadir={self.data}", "--user=root"]
        made = ["mariadb-install-db", *base, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, capture_output=True)
        served = ["mariadbd", *base, f"--socket={self.socket}", f"--pid-file={self.run}/mariadb.pid"]
        with (self.log / "mariadb.log").open("wb") as log:
            subprocess.Popen(
                # slurmdbd asks for the longer wait
                [*served, "--skip-networking", "--innodb-lock-wait-timeout=900"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.socket.exists, 60, "MariaDB")
        self.start_slurmdbd()

    def start_slurmdbd(self) -> None:
        """Start slurmdbd, also again after `kill`."""
        subprocess.run(["slurmdbd"], env={**os.environ, "MYSQL_UNIX_PORT": str(self.socket)}, check=True)
        wait_for(lambda: command("sacctmgr", "--noheader", "list", "user"), 60, "answer of slurmdbd")

    def kill(self) -> None:
        """Let slurmdbd die: sacct gets no answer."""
        kill(int((self.run / "slurmdbd.pid").read_text()))

    def stop(self) -> None:
        """End both, slurmdbd first."""
        end([self.run / "slurmdbd.pid"])
        end([self.run / "mariadb.pid"])
