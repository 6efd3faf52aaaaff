"""Give ansible-test the script with which it puts pip into its venvs, where it cannot download it itself.

ansible-test looks into its cache first. So: what is cached stays; what can be downloaded is left to ansible-test; for
the rest a stand-in takes pip from the interpreter's own ensurepip. Run it with the interpreter that has ansible-core.
"""

from __future__ import annotations

import pathlib
import re
import urllib.request

import ansible_test

STAND_IN = '''"""Stand-in by ebpf.deploy: pip out of ensurepip, which then installs what was asked for."""
import subprocess
import sys

wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade"], stdout=subprocess.DEVNULL)
subprocess.check_call([sys.executable, "-m", "pip", "install", *wanted])
'''
HERE = pathlib.Path(ansible_test.__file__).parent
CACHE = pathlib.Path("~/.ansible/test/cache").expanduser()


def versions():
    """The pip versions that this ansible-test may ask for."""
    return set(re.findall(r"pip='([\d.]+)'", (HERE / "_internal/python_requirements.py").read_text()))


def can_download(version):
    pattern = re.search(r"url = '(https:\S+get-pip-%s\.py)'", (HERE / "_util/target/setup/requirements.py").read_text())
    try:
        with urllib.request.urlopen(pattern.group(1) % version, timeout=10):
            return True
    except OSError:
        return False


def main():
    scripts = {version: CACHE / f"get_pip_{version.replace('.', '_')}.py" for version in versions()}
    missing = {version: script for version, script in scripts.items() if not script.exists()}
    if not missing or can_download(next(iter(missing))):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    for script in missing.values():
        script.write_text(STAND_IN)
        print(f"cannot download pip for ansible-test: {script} stands in for it")


main()
