"""Kills a process that writes codes, and lets another one go on.

Run by test_codes_on_disk.py in a process of its own, which forks: Dask and zarr start
their threads in the forks. Each line of the output says for one format how the two
processes have ended and how many blocks the second one has computed.
"""

import contextlib
import os
import signal
import time
import traceback

import dask.array as da
import numpy as np
import scipy.sparse as sp

from skdict.io import _codes, write_codes


def main(folder):
    _codes._BLOCKS = 1  # written together
    dense = np.load(folder / "codes.npy")
    told, tell = os.pipe()

    def block(part):
        os.write(tell, b".")
        time.sleep(0.05)
        return sp.csr_matrix(part)

    def fork(format):
        child = os.fork()
        if child == 0:
            try:
                codes = da.from_array(dense, chunks=(50, -1)).map_blocks(
                    block,
                    meta=sp.csr_matrix((0, 0), dtype=dense.dtype),
                    dtype=dense.dtype,
                )
                write_codes(codes, folder / format, format=format)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return child

    for format in ("zarr", "parquet"):
        child = fork(format)
        for _ in range(8):  # of 20 blocks
            os.read(told, 1)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.set_blocking(told, False)
        with contextlib.suppress(BlockingIOError):
            os.read(told, 99)
        os.set_blocking(told, True)
        print(format, status, os.waitpid(fork(format), 0)[1], len(os.read(told, 99)))
