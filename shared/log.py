"""One logger set-up: operators' text on stderr; never a file name, tag or pixel of a patient."""

import logging
import sys


def set_up_log(*, site: str = "-", level: int = logging.INFO) -> None:
    """Send the log to stderr, each line with the time, the site and the module."""
    form = f"%(asctime)s %(levelname).1s {site} %(name)s: %(message)s"
    logging.basicConfig(level=level, stream=sys.stderr, format=form, datefmt="%H:%M:%S", force=True)
    for noisy in ("httpx", "httpcore", "alembic", "mlflow", "PIL", "pydicom", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
