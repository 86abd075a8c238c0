"""What the labs of tools/ have in common: namespaces of their own, what is missing, attempts, and the table."""
import os, shutil, signal, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = Path(sys.argv[0]).name
TRIES = 3
RUN_LIMIT_S = 60


def fail(text):
    print(f"{NAME}: {text}", file=sys.stderr)
    sys.exit(2)


def skip(text):
    print(f"{NAME}: SKIPPED: {text}")
    sys.exit(77)


def sh(*words, **more):
    """Runs a command of the set-up; what it printed is shown when it fails."""
    done = subprocess.run(words, text=True, capture_output=True, timeout=60, **more)
    if done.returncode:
        fail(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


# --- Before: what is missing ------------------------------------------------------------------------------------------

def binary():
    if os.environ.get("RANKSTORM"):
        return str(Path(os.environ["RANKSTORM"]).resolve())
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "debug/rankstorm", target / "release/rankstorm") if p.exists()]
    if not built:
        if subprocess.run(["cargo", "build", "--locked"], cwd=ROOT).returncode:
            fail("rankstorm could not be built")
        built = [target / "debug/rankstorm"]
    return str(max(built, key=lambda p: p.stat().st_mtime))


def check_root(why):
    if os.geteuid() != 0:
        skip(f"not root, and {why} need it")


def install(missing):
    """Installs Debian packages where the environment has CI set; what is missing then."""
    if missing and os.environ.get("CI") and shutil.which("apt-get"):
        print(f"{NAME}: installing {' '.join(missing)}", flush=True)
        words = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=60", "install", "--no-install-recommends", *missing]
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
        try:
            if subprocess.run(words, timeout=120, **quiet).returncode == 0:
                return []
        except subprocess.TimeoutExpired:
            pass
    return missing


def missing_text(missing):
    return f"missing: apt-get install -y --no-install-recommends {' '.join(missing)}"


def check_ports():
    help_text = subprocess.run([binary(), "doctor"], text=True, capture_output=True).stdout
    if "--on ports    works" not in help_text:
        skip("this build has no --on ports (built without DPDK)")


def first_in_line():
    """Others on this machine wait for two seconds at a time: a tester that waits measures itself."""
    os.nice(-10)
    try:
        os.setsid()
        Path("/proc/self/autogroup").write_text("-10")
    except OSError:
        pass    # no groups by session here, or a session of our own already


# --- Scenarios --------------------------------------------------------------------------------------------------------

def show(name, rows):
    """Prints the table of a scenario (figure, ours, theirs, largest relative difference or None for equal); how many goals
    were missed."""
    missed = 0
    for what, ours, theirs, most in rows:
        difference = abs(ours - theirs) / theirs if theirs else (0.0 if ours == theirs else float("inf"))
        good = ours == theirs if most is None else difference <= most
        missed += not good
        number = lambda x: f"{x:,.0f}" if isinstance(x, int) else f"{x:,.1f}"
        goal = "exact" if most is None else f"{most:.0%}"
        print(f"{name:<11} {what:<31} {number(ours):>10} {number(theirs):>10} {difference:>8.2%} {goal:>6}  "
              f"{'ok' if good else 'MISSED'}", flush=True)
    return missed


def measure(wanted, theirs, one):
    """`one(name)` gives the rows of a scenario, or None and why they are not trusted. The exit code."""
    print(f"{'scenario':<11} {'figure':<31} {'rankstorm':>10} {theirs:>10} {'apart':>8} {'goal':>6}", flush=True)
    missed, spoilt = 0, []
    for name in wanted:
        for attempt in range(1, TRIES + 1):
            rows, why = one(name)
            if rows:
                missed += show(name, rows)
                break
            print(f"{name:<11} attempt {attempt} of {TRIES} is not trusted: {why}", flush=True)
        else:
            spoilt.append(name)
    if spoilt and not missed:
        skip(f"{', '.join(spoilt)} could not be measured: the machine was too busy")
    print(f"{NAME}: {f'{missed} goals missed' if missed else 'PASS'}")
    return 1 if missed else 0


def main(about, scenarios, check_tools, inside, restore=lambda: None):
    """Runs `inside(wanted, work)` in namespaces of its own; `restore()` afterwards, in whatever way it ended."""
    wanted = sys.argv[1:]
    if any(w in ("-h", "--help") for w in wanted):
        print(about)
        return 0
    unknown = [w for w in wanted if w not in scenarios]
    if unknown:
        fail(f"no scenario {unknown[0]!r}; there are {', '.join(scenarios)}")
    if os.environ.get("LAB_INSIDE") == "1":
        return inside(wanted or list(scenarios), os.environ["LAB_WORK"])
    wanted = check_tools(wanted or list(scenarios))
    with tempfile.TemporaryDirectory(prefix="rs-lab.") as work:
        here = [sys.executable, str(Path(sys.argv[0]).resolve()), *wanted]
        lab = subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", *here],
                               env={**os.environ, "LAB_INSIDE": "1", "LAB_WORK": work, "RANKSTORM": binary()})
        signal.signal(signal.SIGTERM, lambda *_: lab.kill())
        try:
            code = lab.wait()
        except KeyboardInterrupt:
            lab.kill()
            code = 130
        finally:
            restore()
        if os.environ.get("LAB_KEEP"):
            shutil.copytree(work, os.environ["LAB_KEEP"], dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
        return code if code >= 0 else 2
