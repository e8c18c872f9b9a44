"""For `accelerate launch train_student.py`; the code is in the package of the same name."""

from train_student.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
