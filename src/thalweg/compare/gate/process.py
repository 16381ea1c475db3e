"""A side of a gate in a process of its own, so that neither side sees what the other one imports or sets.

Both may import a module of one name from folders of their own, or set torch's precision for the whole process. What a
side does to its process, such as ending it, is a failed run. The processes speak in lines of JSON over two pipes.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from thalweg.compare.execution.job import Progress
from thalweg.compare.gate.runs import Run
from thalweg.compare.gate.side import ChangedError, LocalSide, Measure, Recipe
from thalweg.compare.user_errors import StudyError, TaskError, brief, describe_error

BEGIN = "from thalweg.compare.gate.process import serve; serve()"


class ProcessSide:
    """Trains a recipe that is given by names in another process; see :class:`~thalweg.compare.gate.side.LocalSide`."""

    def __init__(self, name: str, recipe: Recipe, measure: Measure, here: Path) -> None:
        self.name = name
        self._load = {"name": name, "recipe": asdict(recipe), "measure": asdict(measure), "here": str(here)}
        self._facts: dict[str, Any] | None = None
        self._start()

    @property
    def facts(self) -> dict[str, Any]:
        """What the recipe is, once it is loaded."""
        if self._facts is None:
            answer = self._answer(lambda steps: None)
            if answer is None:
                raise TaskError(f"the {self.name} {self._end()} while it was loaded: correct it")
            self._facts = answer["facts"]
        return self._facts

    def run(self, seed: int, progress: Progress) -> Run:
        """Trains once under a seed."""
        if self._process.poll() is not None:  # a run has ended it
            known, self._facts = self.facts, None
            self._start()
            if self.facts != known:
                raise ChangedError(f"the {self.name} is no longer what it was: start the gate again with another --out")
        with suppress(OSError):
            self._say({"seed": seed})
        answer = self._answer(progress)
        if answer is None:
            return Run(seed, None, "failed", f"it {self._end()}")
        return Run(**answer["run"])

    def close(self) -> None:
        """Ends the process."""
        for file in (self._requests, self._answers):
            with suppress(OSError):
                file.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BEGIN, str(theirs_in), str(theirs_out)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # an interruption is this process's to answer
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._requests: IO[str] = os.fdopen(ours_out, "w", encoding="utf-8")
        self._answers: IO[str] = os.fdopen(ours_in, encoding="utf-8")
        self._say(self._load)

    def _say(self, request: dict[str, Any]) -> None:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()

    def _answer(self, progress: Progress) -> dict[str, Any] | None:
        """Returns what the process answers; None where it has ended. Raises the error that it reports."""
        for line in self._answers:
            answer: dict[str, Any] = json.loads(line)
            if "steps" in answer:
                progress(answer["steps"])
            elif "changed" in answer:
                raise ChangedError(answer["changed"])
            elif "error" in answer:
                raise TaskError(answer["error"])
            else:
                return answer
        self._process.wait()
        return None

    def _end(self) -> str:
        """Returns how the process has ended, as a verb."""
        code = self._process.returncode
        if code < 0:
            return f"ended its process by {signal.Signals(-code).name}"
        return f"ended its process with code {code}"


def serve() -> None:
    """Answers the requests of :class:`ProcessSide`, until they end."""
    asked: queue.Queue[dict[str, Any]] = queue.Queue()
    answers = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")

    def listen() -> None:
        with os.fdopen(int(sys.argv[1]), encoding="utf-8") as asking:
            for line in asking:
                asked.put(json.loads(line))
        os._exit(0)  # whoever asked is gone

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    load = asked.get()
    name = load["name"]
    try:
        side = LocalSide(name, Recipe(**load["recipe"]), Measure(**load["measure"]), Path(load["here"]), alone=True)
        say({"facts": side.facts})
        while True:
            seed = asked.get()["seed"]
            try:
                run = side.run(seed, lambda steps: say({"steps": steps}))
            except ChangedError as error:
                say({"changed": str(error)})
            except KeyboardInterrupt as error:  # by the user's code
                say({"run": asdict(Run(seed, None, "failed", f"training {describe_error(error)}"))})
            else:
                say({"run": asdict(run)})
    except (ValueError, StudyError) as error:
        say({"error": str(error)})
    except BaseException as error:
        traceback.print_exception(error)
        say({"error": f"the {name} cannot be trained ({brief(error)}): see the lines above"})
