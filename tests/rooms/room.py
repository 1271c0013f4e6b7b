"""What bindery is measured in: a state folder of its own, with the image and the archives of another."""
import json
import os
import shutil
import subprocess
import sys
import time


def timed(command, **how):
    """Runs a command; returns its wall and CPU time in seconds. What it says is shown if it fails."""
    log = how.pop("log")
    with open(log, "wb") as to:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=to, stderr=subprocess.STDOUT, **how)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    if status:
        with open(log, encoding="utf-8", errors="replace") as said:
            sys.stderr.write(said.read()[-4000:])
        sys.exit(f"bench-rooms: `{' '.join(command)[:200]}` failed")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}


class Bench:
    """A configuration and a state folder."""

    def __init__(self, here, bindery, state):
        if not os.path.exists(os.path.join(state, "state/images/debian-portage.lock")):
            sys.exit(f"bench-rooms: there is no image in `{state}`: set BINDERY_STATE, and run `just demo` there first")
        self.here, self.bindery, self.ready = here, os.path.abspath(shutil.which(bindery) or bindery), os.path.abspath(state)
        self.work = os.path.join(self.ready, "bench-rooms")
        self.config = os.path.join(self.work, "config")
        self.trees = ["bindery-test"]
        said = subprocess.run([self.bindery, "build", "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
        # Earlier ones build one package after the other, and no option says otherwise.
        self.side_by_side = "--jobs" in said
        self.remove()
        os.makedirs(os.path.join(self.config, "profiles"))
        self.write_config()
        # If the image there is of an earlier definition, it is made again here, once, and not while something is measured.
        self.base = self.fresh("base", self.ready)
        make = [self.bindery, "image", "make", "debian-portage", "--state", self.base, "--config", self.config]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def remove(self):
        subprocess.run(["rm", "-rf", self.work], check=True)

    def write_config(self):
        with open(os.path.join(self.here, "../bindery.toml"), encoding="utf-8") as file:
            text = file.read().replace('path = "tests/tree"', f'path = "{self.here}/tree"')
        names = ", ".join(f'"{name}"' for name in self.trees)
        text = text.replace('trees = ["bindery-test"]', f"trees = [{names}]")
        for name in self.trees[1:]:
            text += f'[trees.{name}]\npath = "{self.work}/{name}"\n'
        with open(os.path.join(self.config, "bindery.toml"), "w", encoding="utf-8") as file:
            file.write(text)

    def add_graph(self, count):
        """Writes the synthetic tree and returns its packages."""
        import graph

        self.trees.append("synthetic")
        self.write_config()
        return graph.write(os.path.join(self.work, "synthetic"), "synthetic", count, "seed")

    def fresh(self, name, base):
        """Returns an empty state folder but for what another has: no package, no layer, no snapshot."""
        state = os.path.join(self.work, name)
        subprocess.run(["rm", "-rf", state], check=True)
        for part in ("state/images", "state/state.json", "cache/distfiles", "cache/downloads", "etc/keys"):
            to = os.path.join(state, part)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if not os.path.exists(os.path.join(base, part)):
                continue
            # These files are never changed: links will do.
            subprocess.run(["cp", "-al", os.path.join(base, part), to], check=True)
        return state

    def build(self, name, atoms, jobs):
        """Builds with bindery, from nothing; returns the figures."""
        state = self.fresh(name, self.base)
        profile = os.path.join(self.config, "profiles", "bench-rooms.toml")
        with open(profile, "w", encoding="utf-8") as file:
            file.write('version = 1\ninherits = "amd64"\n')
        command = [self.bindery, "build", "--profile", "bench-rooms", "--state", state, "--config", self.config]
        command += ["--jobs", str(jobs)] if self.side_by_side else []
        env = {key: value for key, value in os.environ.items() if not key.startswith("BINDERY_")}
        # The sandbox's own processes are not this one's children's: bindery's cgroup is not asked, but the whole tree is.
        figures = timed([*command, *atoms], env=env, log=os.path.join(self.work, "bindery.log"))
        runs = os.path.join(state, "state/runs")
        run = os.path.join(runs, sorted(os.listdir(runs))[-1])
        with open(os.path.join(run, "events.jsonl"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        with open(os.path.join(run, "plan.json"), encoding="utf-8") as file:
            order = [package["cpv"] for package in json.load(file)["packages"]]
        return {**figures, "order": order, "run": run, "state": state, "parts": parts(events, figures["wall"])}


def parts(events, wall):
    building = sum(event.get("milliseconds", 0) for event in events if event["event"] == "build-finished") / 1000
    return {"packages": building, "plan and publish": wall - building}
