"""A whole Slurm cluster in one folder of one machine: munged, slurmctld and several slurmd, started and stopped here.

Needs root and Debian's packages slurmctld, slurmd, slurm-client, munge and slurm-wlm-basic-plugins; touches no file
outside its folder.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue")

# TmpFS per node: else the nodes of one PMIx step fight for one folder. cred_expire: a requeued job may start only after the
# credential's life, 120 s by default. config_overrides: nodes may claim more cores than the machine has.
CONFIGURATION = """\
ClusterName=mpishards
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=6
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
TmpFS={folder}/tmp/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
KillWait=5
SlurmdTimeout=30
JobRequeue=1
"""


def why_not():
    """Why no cluster can run here, or an empty text."""
    if os.geteuid() != 0:
        return "needs root"
    search_path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [name for name in DAEMONS + CLIENTS if shutil.which(name, path=search_path) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not any(pathlib.Path("/sys/fs/cgroup").glob("*")):
        return "slurmd needs control groups, and /sys/fs/cgroup is empty"
    return ""


def _free_ports(count):
    """The first of `count` consecutive free ports."""
    first = 20000 + os.getpid() % 20000
    while True:
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            first += count


class Cluster:
    """Use as a context manager; `environment` is what clients and jobs need."""

    def __init__(self, folder, nodes=2, cpus=4):
        self.folder = pathlib.Path(folder)
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        self.cpus = cpus
        # All nodes share one host name and /dev/shm, where Open MPI's shared memory transport would mix them up.
        self.environment = {
            **os.environ,
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "OMPI_MCA_btl": "self,tcp",
            "OMPI_MCA_btl_tcp_if_include": "lo",
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def __enter__(self):
        try:
            self._configure()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _configure(self):
        for name in ("munge", "state", "log", *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged insists that nobody else may write along the way to its socket.
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        port = _free_ports(len(self.nodes) + 1)
        lines = [CONFIGURATION.format(host=host, port=port, folder=self.folder)]
        for i, node in enumerate(self.nodes):
            lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 1 + i} "
                         f"CPUs={self.cpus} RealMemory=4000 State=UNKNOWN\n")
        lines.append(f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES MaxTime=INFINITE State=UP\n")
        (self.folder / "slurm.conf").write_text("".join(lines))

    def _start(self):
        munge = self.folder / "munge"
        self._daemon(["munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/sock",
                      f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"])
        self._daemon(["slurmctld"])
        for node in self.nodes:
            self._daemon(["slurmd", "-N", node])
        self.wait_for(lambda: self.client("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(len(self.nodes)),
                      "idle nodes", 60)

    def _daemon(self, command):
        # They go to the background; an inherited pipe would make the caller wait for them.
        log = self.folder / "log" / f"start-{command[0]}"
        with open(log, "ab") as stream:
            code = subprocess.call(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=stream,
                                   stderr=stream, timeout=60)
        if code != 0:
            raise RuntimeError(f"{' '.join(command)}: exit code {code}\n{log.read_text()}")

    def stop(self):
        """Ends what this cluster started, by the process ids that it wrote down."""
        if (self.folder / "slurmctld.pid").exists():
            subprocess.call(["scancel", "--quiet", "--user=root", "--full", "--signal=KILL"], env=self.environment,
                            timeout=30, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pid_files = [*self.folder.glob("slurmd-*.pid"), self.folder / "slurmctld.pid", self.folder / "munge/pid"]
        for pid_file in pid_files:
            try:
                pid = int(pid_file.read_text())
                os.kill(pid, signal.SIGTERM)
                self.wait_for(lambda pid=pid: not pathlib.Path(f"/proc/{pid}").exists(), f"the end of {pid}", 10)
            except (OSError, ValueError):
                continue
            except AssertionError:
                os.kill(pid, signal.SIGKILL)

    def client(self, *command, check=True, environment=None, cwd=None):
        """Runs a Slurm client and returns what it printed."""
        done = subprocess.run(command, env={**self.environment, **(environment or {})}, cwd=cwd, timeout=60, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait_for(self, condition, what, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{self.logs()}"
            time.sleep(0.1)

    def job(self, job_id):
        """What scontrol knows of a job, as a dict."""
        text = self.client("scontrol", "show", "job", "--oneliner", str(job_id)).splitlines()[0]
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait_for_job(self, job_id, seconds=120):
        """The job's record after its end."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
        self.wait_for(lambda: self.job(job_id)["JobState"] in ended, f"job {job_id}", seconds)
        return self.job(job_id)

    def logs(self):
        """The ends of the daemons' logs, for a failed test's message."""
        parts = []
        for log in sorted((self.folder / "log").glob("*")):
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:]))
        return "\n".join(parts)
