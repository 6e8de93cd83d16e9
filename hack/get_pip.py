# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for the script with which ansible-test puts pip into a new environment.

ansible-test downloads that script from its project's own site. This one does the same with Python's
bundled pip and the package index that pip is set up for, so that sanity tests run behind a mirror.
hack/lint.sh lays it in the cache.
"""

import runpy
import subprocess
import sys

if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    pip_arguments = [
        argument for argument in sys.argv[1:] if argument not in {"--no-setuptools", "--no-wheel"}
    ]
    sys.argv = ["pip", "install", *pip_arguments]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
