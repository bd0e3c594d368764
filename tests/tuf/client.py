"""python-tuf's client as a command: `client.py TRUST METADATA_URL TARGETS_URL TARGET_DIR ROOT [NAME…]`.

TRUST is kept between calls; ROOT is where trust begins. Without names the metadata is only refreshed. Exit 0 on full success,
1 where something was refused, with the reason on standard error.
"""

import os
import sys

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater


def main(trust, metadata_url, targets_url, target_dir, root, names):
    os.makedirs(trust, exist_ok=True)
    os.makedirs(target_dir, exist_ok=True)
    with open(root, "rb") as file:
        bootstrap = file.read()
    updater = Updater(
        metadata_dir=trust,
        metadata_base_url=metadata_url,
        target_dir=target_dir,
        target_base_url=targets_url,
        bootstrap=bootstrap,
    )
    updater.refresh()
    for name in names:
        info = updater.get_targetinfo(name)
        if info is None:
            sys.exit(f"error: no target {name!r}")
        updater.download_target(info)


try:
    main(*sys.argv[1:6], sys.argv[6:])
except (RepositoryError, DownloadError) as error:
    sys.exit(f"error: {type(error).__name__}: {error}")
