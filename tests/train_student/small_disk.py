"""`python -m tests.train_student.small_disk FOLDER KILOBYTES ARGUMENTS...`: train on a disk that fills, then with room.

Runs in a mount namespace of its own. FOLDER/disk is the disk, FOLDER/full what lay there when it was full, FOLDER/whole
what lay there in the end.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from pld.config import run
from train_student.run.train import main

if __name__ == "__main__":
    folder, kilobytes, *arguments = sys.argv[1:]
    disk = Path(folder) / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], check=True)
    first = run(main, arguments)
    shutil.copytree(disk, disk.with_name("full"))
    subprocess.run(["mount", "-o", "remount,size=1G", disk], check=True)
    second = run(main, arguments)
    shutil.copytree(disk, disk.with_name("whole"))
    print(f"exit statuses {first} and {second}")
