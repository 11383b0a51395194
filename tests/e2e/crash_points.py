"""Ends the program in its N-th change of the output's files, by the preloaded crash_points.c, and resumes it."""

import h5py
import interrupted_job
import numpy as np
import support

QUERIES = 120
STREAMED = ["--memory", "1400KiB", "--batch", "40", "--checkpoint", "0"]
CANNOT_CREATE = 73


def answers_of_ibin(output):
    nq, k = np.fromfile(output, np.uint32, 2)
    ids = np.fromfile(output, np.int32, nq * k, offset=8).astype(np.int64)
    return ids.tobytes() + np.fromfile(output, np.float32, offset=8 + 4 * nq * k).tobytes()


def answers(output):
    """The payload of a finished result of any format; None while there is none."""
    if output.suffix == ".h5":
        return support.payload(output) if output.exists() else None
    if output.suffix == ".ibin":
        return answers_of_ibin(output) if output.exists() else None
    parts = [output.with_suffix(".neighbors.npy"), output.with_suffix(".distances.npy")]
    if not all(part.exists() for part in parts):
        return None
    return b"".join(np.load(part).tobytes() for part in parts)


class CrashTest:
    """One command line of the job, its first queries only, that writes `output`."""

    def __init__(self, job, output, more, ranks=None, rank=0):
        self.output, self.ranks = output, ranks
        self.line = job.line(output, "--queries-range", f"0:{QUERIES}", *more)
        self.preload = {"LD_PRELOAD": job.library, "CRASH_PREFIX": output.with_suffix(""), "CRASH_RANK": rank}
        neighbors, distances = support.read_result(job.folder / "reference.h5")
        self.expected = neighbors[:QUERIES].tobytes() + distances[:QUERIES].tobytes()

    def run(self, **settings):
        return support.run(self.line, np=self.ranks, env={**self.preload, **settings})

    def clean(self):
        for path in self.output.parent.glob("out*"):
            path.unlink()

    def all_points(self, log):
        """Every change that an uninterrupted run makes, in order: the call and the file, without its folder."""
        result = self.run(CRASH_LOG=log)
        assert result.code == 0, result
        assert answers(self.output) == self.expected
        self.clean()
        return [line.replace(f"{self.output.parent}/", "") for line in log.read_text().splitlines()]

    def crash_and_resume(self, point, half, name):
        """Kills at the point and runs the line again; what was wrong, as a list of texts."""
        settings = {"CRASH_AT": point, **({"CRASH_HALF": "1"} if half else {})}
        crashed = self.run(**settings)
        where = f"killed {'inside' if half else 'before'} change {point} ({name})"
        faults = []
        if crashed.code == 0:
            faults.append(f"{where}: the run ended well")
        if answers(self.output) not in (None, self.expected):
            faults.append(f"{where}: half a result has its final name")
        published = answers(self.output) is not None
        journal = self.output.with_name(f"{self.output.name}.journal").exists()
        again = support.run(self.line, np=self.ranks)
        # Once the journal is gone, the finished result is like any other that exists.
        if again.code != 0 and not (published and not journal and again.code == CANNOT_CREATE):
            faults.append(f"{where}: run again: {again}")
        if answers(self.output) != self.expected:
            faults.append(f"{where}: other bytes after the resume")
        left = [path.name for path in self.output.parent.iterdir() if path.name.endswith(interrupted_job.LITTER)]
        if again.code == 0 and left:
            faults.append(f"{where}: the resumed run leaves {left}")
        if again.code == 0 and self.output.suffix == ".h5" and not published:
            with h5py.File(self.output) as file:
                if int(file.attrs["base_content_hash"], 16) == 0:
                    faults.append(f"{where}: the resumed result does not know its base's hash")
        self.clean()
        return faults
