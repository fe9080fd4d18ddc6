"""The peers of lowrank, one function each. tools/compare-peers runs this file inside a virtual environment:

    peers.py FUNCTION FOLDER [NAME=NUMBER...]

The folder has the ratings as arrays (`users.npy`, `items.npy`, `ratings.npy` and the same with `test_` before them), as
`prepare` writes them. The result is one JSON object on the last line of standard output.

A peer's seconds an epoch are (seconds of n epochs - seconds of one) / (n - 1) where it does not tell them by itself, so that
what it does before and after is not counted.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path


def arrays(folder, part=""):
    import numpy as np

    return [np.load(folder / f"{part}{name}.npy") for name in ("users", "items", "ratings")]


def matrix(folder):
    """Users x items, of training ratings."""
    import scipy.sparse as sparse

    users, items, ratings = arrays(folder)
    test = arrays(folder, "test_")
    shape = (max(users.max(), test[0].max()) + 1, max(items.max(), test[1].max()) + 1)
    return sparse.csr_matrix((ratings, (users, items)), shape=shape)


def rmse(predictions, ratings):
    import numpy as np

    errors = np.clip(predictions, 0.5, 5.0) - ratings
    return float(np.sqrt(np.mean(errors.astype(float) ** 2)))


def per_epoch(fit, epochs):
    """Seconds an epoch, and what the longer run left."""
    began = time.perf_counter()
    fit(1)
    one = time.perf_counter()
    model = fit(epochs)
    many = time.perf_counter()
    return ((many - one) - (one - began)) / (epochs - 1), model


def prepare(folder, source, validation):
    """Numbers users and items, holds out a tenth by a hash, and writes what all contenders read: `train.csv` and `test.csv`
    for lowrank, arrays for the peers. With validation=1 the tenth is taken from what would be trained on."""
    import numpy as np
    import polars as pl

    table = pl.read_csv(source)
    table.columns = ["user", "item", "rating", *table.columns[3:]]

    def tenth(table, seed):
        hashed = table["user"].cast(pl.UInt64) * 0x9E3779B97F4A7C15 % (1 << 31)
        hashed = (hashed * 31 + table["item"].cast(pl.UInt64) * 2654435761 + seed * 97) * 0x9E3779B1 % (1 << 31)
        return (hashed.to_numpy() >> 8) % 10 == 0

    table = table.select("user", "item", "rating")
    held = tenth(table, 1)
    if validation:
        table = table.filter(~held)
        held = tenth(table, 2)
    # What is in no training rating cannot be learned by anybody: it stays in the training part.
    for side in ("user", "item"):
        known = set(table.filter(~held)[side].unique().to_list())
        held &= table[side].is_in(list(known)).to_numpy()
    for name, mask in (("train", ~held), ("test", held)):
        part = table.filter(mask)
        part.write_csv(folder / f"{name}.csv")
        prefix = "" if name == "train" else "test_"
        if not prefix:
            names = {side: np.unique(part[side].to_numpy()) for side in ("user", "item")}
        for side in ("user", "item"):
            number = np.searchsorted(names[side], part[side].to_numpy()).astype(np.int32)
            np.save(folder / f"{prefix}{side}s.npy", number)
        np.save(folder / f"{prefix}ratings.npy", part["rating"].to_numpy().astype(np.float32))
    users, items = (len(names[side]) for side in ("user", "item"))
    return {"users": users, "items": items, "train": int((~held).sum()), "test": int(held.sum())}


def read(folder):
    """What import does, by polars and scipy: the text, and both orientations."""
    import polars as pl
    import scipy.sparse as sparse

    began = time.perf_counter()
    table = pl.read_csv(folder / "train.csv")
    numbers = [table[side].rank("dense").to_numpy() - 1 for side in ("user", "item")]
    numbered = time.perf_counter() - began
    rows = sparse.csr_matrix((table["rating"].to_numpy().astype("float32"), numbers))
    columns = rows.tocsc()
    seconds = time.perf_counter() - began
    held = sum(part.nbytes for m in (rows, columns) for part in (m.data, m.indices, m.indptr))
    return {"seconds": seconds, "numbered": numbered, "bytes": held / rows.nnz}


def implicit(folder, rank, epochs, threads, cg):
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=rank, regularization=0.1, alpha=10.0, use_cg=bool(cg), iterations=epochs, num_threads=threads
    )
    times = []
    model.fit(matrix(folder), show_progress=False, callback=lambda _epoch, seconds, *_: times.append(seconds))
    return {"epoch": sorted(times)[len(times) // 2]}


def implicit_top(folder, rank, threads):
    """Ten items for everybody, in batches; how long training took does not count."""
    import numpy as np
    from implicit.cpu.als import AlternatingLeastSquares

    ratings = matrix(folder)
    model = AlternatingLeastSquares(factors=rank, iterations=1, num_threads=threads)
    model.fit(ratings, show_progress=False)
    users = np.arange(ratings.shape[0])
    began = time.perf_counter()
    for batch in np.array_split(users, max(1, len(users) // 20_000)):
        model.recommend(batch, ratings[batch], N=10)
    return {"seconds": time.perf_counter() - began}


def implicit_ranking(folder, method, rank, epochs, threads, positive):
    """Recall at 20 over all items, those of the training part left out, as the mean over users; what is rated at least
    `positive` was taken. For als every rating counts, by its weight."""
    import numpy as np
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    ratings = matrix(folder)
    taken = ratings.copy()
    taken.data[taken.data < positive] = 0.0
    taken.eliminate_zeros()
    times = []
    if method == "bpr":
        taken.data[:] = 1.0
        model = BayesianPersonalizedRanking(factors=rank, iterations=epochs, num_threads=threads, random_state=1)
        began = time.perf_counter()
        model.fit(taken, show_progress=False)
        epoch = (time.perf_counter() - began) / epochs
    else:
        model = AlternatingLeastSquares(
            factors=rank, regularization=0.1, alpha=10.0, iterations=epochs, num_threads=threads, random_state=1
        )
        model.fit(taken, show_progress=False, callback=lambda _epoch, seconds, *_: times.append(seconds))
        epoch = sorted(times)[len(times) // 2]
    users, items, values = arrays(folder, "test_")
    users, items = users[values >= positive].astype(np.int64), items[values >= positive]
    of_user = np.bincount(users, minlength=ratings.shape[0])
    hits = np.zeros(ratings.shape[0])
    wanted = users * ratings.shape[1] + items
    asked = np.flatnonzero(of_user)
    for batch in np.array_split(asked, max(1, len(asked) // 20_000)):
        listed, _ = model.recommend(batch, ratings[batch], N=20)
        hits[batch] = np.isin(batch[:, None].astype(np.int64) * ratings.shape[1] + listed, wanted).sum(axis=1)
    return {"epoch": epoch, "quality": float((hits[asked] / of_user[asked]).mean())}


def cmfrec(folder, rank, epochs, threads, cg):
    from cmfrec import CMF

    ratings = matrix(folder).tocoo()

    def fit(niter):
        return CMF(
            k=rank,
            lambda_=0.05,
            scale_lam=True,
            use_cg=bool(cg),
            finalize_chol=False,
            niter=niter,
            nthreads=threads,
            precompute_for_predictions=False,
        ).fit(ratings)

    seconds, model = per_epoch(fit, epochs)
    users, items, values = arrays(folder, "test_")
    return {"epoch": seconds, "quality": rmse(model.predict(user=users, item=items), values)}


def buffalo(folder, rank, epochs, threads):
    from buffalo import ALS, ALSOption, MatrixMarketOptions
    from scipy.io import mmwrite

    text = folder / "buffalo.mtx"
    if not text.exists():
        mmwrite(text, matrix(folder))
    data = MatrixMarketOptions().get_default_option()
    data.input.main = str(text)
    data.data.path = str(folder / "buffalo.h5")
    data.data.tmp_dir = str(folder)
    data.data.use_cache = True
    option = ALSOption().get_default_option()
    option.update(
        {
            "d": rank,
            "num_iters": epochs,
            "num_workers": threads,
            "optimizer": "llt",
            "evaluation_on_learning": False,
            "compute_loss_on_training": False,
        }
    )

    def fit(iterations):
        option.num_iters = iterations
        model = ALS(option, data_opt=data)
        model.initialize()
        began = time.perf_counter()
        model.train()
        return time.perf_counter() - began

    fit(1)
    return {"epoch": (fit(epochs) - fit(1)) / (epochs - 1)}


def libmf(folder, rank, epochs, threads):
    """SGD with the options that libmf does best with on ratings of this kind. It prints a line after each epoch, and the time
    between two lines is that of an epoch; the first, in which it moves a part of the factors only, is left out. A second
    run, with the test ratings, tells the RMSE by epoch."""
    import numpy as np
    from libmf import mf

    train, test = arrays(folder), arrays(folder, "test_")
    triples = np.column_stack(train).astype(np.float32)
    ridges = {"lambda_p1": 0.0, "lambda_q1": 0.0, "lambda_p2": 0.035, "lambda_q2": 0.035}
    model = mf.MF(k=rank, nr_threads=threads, nr_bins=20, nr_iters=epochs, eta=0.1, **ridges)
    began = time.perf_counter()
    stamps = [at for at, _ in listen(lambda: model.fit(triples))]
    whole = time.perf_counter() - began
    gaps = sorted(after - before for before, after in zip(stamps[1:], stamps[2:]))
    lines = listen(lambda: model.mf_train_test(triples, np.column_stack(test).astype(np.float32)))
    predictions = np.einsum("ij,ij->i", model.p_factors()[test[0]], model.q_factors()[test[1]])
    return {
        "epoch": gaps[len(gaps) // 2],
        "seconds": whole,
        "quality": rmse(predictions, test[2]),
        "curve": [float(line.split()[2]) for _, line in lines],
    }


def listen(work):
    """The lines with a number in front that `work` prints, each with the time when it came."""
    sys.stdout.flush()
    heard, out = [], os.dup(1)
    reader, writer = os.pipe()

    def hear():
        with os.fdopen(reader) as lines:
            heard.extend((time.perf_counter(), line) for line in lines)

    hearer = threading.Thread(target=hear)
    hearer.start()
    os.dup2(writer, 1)
    os.close(writer)
    work()
    sys.stdout.flush()
    os.dup2(out, 1)
    os.close(out)
    hearer.join()
    return [(at, line) for at, line in heard if line.split() and line.split()[0].isdigit()]


def sklearn(folder, rank, epochs):
    import warnings

    from sklearn.decomposition import NMF

    warnings.simplefilter("ignore")
    ratings = matrix(folder)

    def fit(iterations):
        return NMF(rank, solver="mu", init="random", max_iter=iterations, tol=0, random_state=1).fit_transform(ratings)

    return {"epoch": per_epoch(fit, epochs)[0]}


def machine(folder):
    """Memory: a copy of 1 GiB by two threads, read and written bytes. Disk: 1 GiB written and synced, then read cold."""
    import numpy as np

    size = 1 << 30
    source, target = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)
    halves = [slice(0, size // 8), slice(size // 8, None)]
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        threads = [threading.Thread(target=np.copyto, args=(target[half], source[half])) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = min(best, time.perf_counter() - began)
    path = folder / "disk"
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(64):
            file.write(memoryview(source[: 4 << 20]).cast("B"))
        os.fsync(file.fileno())
        write = time.perf_counter() - began
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(16 << 20)
        while file.readinto(buffer):
            pass
    cold = time.perf_counter() - began
    path.unlink()
    return {"copy": 2 * size / best / 1e9, "write": size / write / 1e9, "read": size / cold / 1e9}


FUNCTIONS = [prepare, read, implicit, implicit_top, implicit_ranking, cmfrec, buffalo, libmf, sklearn, machine]


def main():
    name, folder, *options = sys.argv[1:]
    options = dict(option.split("=", 1) for option in options)
    options = {key: int(value) if value.isdigit() else value for key, value in options.items()}
    function = next(function for function in FUNCTIONS if function.__name__ == name)
    result = function(Path(folder), **options)
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
