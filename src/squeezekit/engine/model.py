"""A network from a ``.sqz`` file, ready to answer."""

from __future__ import annotations

import os
from ctypes import byref, c_size_t, c_void_p
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from squeezekit.engine.library import ISA, InfoHead, NeedsHead, StepHead, has_threads, library
from squeezekit.engine.room import Room, aligned
from squeezekit.errors import UserError, suggest
from squeezekit.library import (
    LABELS,
    LIMIT,
    METADATA,
    OK,
    UNSUPPORTED,
    check,
    names,
    read_bytes,
    sections,
    tell,
    text_decode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from squeezekit.data.picture import Picture
    from squeezekit.data.preparation import Preparation

__all__ = ["FloatFileError", "Info", "Model", "Step", "load"]

_MOST_THREADS = 256
#: Bytes that a network may ask for: a file of some hundred bytes can declare pictures of any size, and no
#: network this is made for takes a tenth of it.
_MOST_MEMORY = 2**30
_KEPT_ROOMS = 8  # for runs that go on at the same time


class FloatFileError(UserError):
    """The file is sound, but of no int8 network that takes pictures."""


class Info(NamedTuple):
    """What a network is and takes.

    Attributes
    ----------
    input : (int, int, int)
        Height, width and channels of a picture.
    outputs : int
        Logits.
    macs : int
        Multiplications of a run.
    isa : str
        The kernels that compute: ``"scalar"``, ``"AVX2"`` or ``"AVX-512 VNNI"``.
    steps : int
        What a run does one after the other.
    file, model, activations, scratch : int
        Bytes: of the file; of the open network; and of what each run needs, between layers and within one.
    bound : int
        Bytes that flow at the layer where it is most: no plan needs fewer activations.
    """

    input: tuple[int, int, int]
    outputs: int
    macs: int
    isa: str
    steps: int
    file: int
    model: int
    activations: int
    scratch: int
    bound: int


class Step(NamedTuple):
    """One thing that a run does: a layer, or several that are computed together.

    Attributes
    ----------
    name, operator : str
        Of the node in the file.
    shape : (int, int, int)
        Height, width and channels of its result.
    macs : int
        Multiplications.
    """

    name: str
    operator: str
    shape: tuple[int, int, int]
    macs: int


class Model:
    """An int8 network. :func:`load` makes one.

    Attributes
    ----------
    name : str
        Of the file.
    info : Info
    threads : int
        That share a run.
    address : int
        Of the ``sqz_model``, for calls of the C library.

    Any number of Python threads may use it at the same time. Every call gives the same bits, whatever the
    number of threads and the processor.
    """

    def __init__(self, data: bytes, name: str = "the file", threads: int = 1, isa: str | None = None) -> None:
        self.name = name
        self.threads = _threads(threads)
        self._free: list[Room] = []
        self._data = data
        self._memory, self.address = _open(data, _isa(isa))
        head = InfoHead()
        library().sqz_describe(self.address, byref(head))
        needs = head.needs
        self.info = Info(
            (head.height, head.width, head.channels),
            head.outputs,
            head.macs,
            library().sqz_isa_name(head.isa).decode(),
            head.steps,
            len(data),
            *(getattr(needs, of) for of in ("model", "activations", "scratch", "bound")),
        )

    def __repr__(self) -> str:
        height, width, channels = self.info.input
        return (
            f"<squeezekit model {self.name!r}: {height} × {width} × {channels} bytes -> "
            f"{self.info.outputs} logits, {self.info.macs:,} MACs, {self.info.isa}>"
        )

    # What the file says beside the network is read when it is first asked for.

    @cached_property
    def _sections(self) -> list[bytes]:
        return sections(self._data)

    @cached_property
    def _labels(self) -> tuple[Any, tuple[str, ...], tuple[str, ...] | None]:
        from squeezekit.format.labels import unpack_labels

        try:
            preparation, found, synsets = unpack_labels(text_decode(self._sections[LABELS], "the labels"))
            if found and len(found) != self.info.outputs:
                raise UserError(f"{len(found)} class names for {self.info.outputs} outputs")
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        return preparation, found, synsets

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the classes, in the order of the logits; ``class 0``, ``class 1``, … where the file has none."""
        return self._labels[1] or tuple(f"class {i}" for i in range(self.info.outputs))

    @property
    def synsets(self) -> tuple[str, ...] | None:
        """WordNet's numbers of the classes, where the file has them."""
        return self._labels[2]

    @cached_property
    def preparation(self) -> Preparation:
        """How a picture becomes the network's input.

        Raises
        ------
        UserError
            The file says nothing that makes sense.
        """
        from squeezekit.data.preparation import Preparation

        try:
            found = Preparation.from_dict(self._labels[0])
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        if (found.size, found.size, found.channels) != self.info.input:
            raise UserError(
                f"{self.name}: pictures are prepared for another network than the one in the file"
            )
        return found

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What else was written into the file."""
        from squeezekit.format.labels import unpack_metadata

        try:
            return unpack_metadata(self._sections[METADATA])
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None

    def run(self, pictures: NDArray[np.uint8], threads: int | None = None) -> NDArray[np.float32]:
        """Compute logits.

        Parameters
        ----------
        pictures : ndarray of uint8, shape (H, W, C) or (N, H, W, C)
            Pictures as they are, scaled and cut to the network's size: :attr:`info`.input. Rows may lie
            apart; where pixels or channels do, a copy is made.
        threads : int, optional
            That share one picture; those that :func:`load` was given by default.

        Returns
        -------
        ndarray of float32, shape (outputs,) or (N, outputs)

        Raises
        ------
        UserError
            The array is of another shape or type.
        """
        batch = pictures if getattr(pictures, "ndim", 0) == 4 else np.asarray(pictures)[None]
        height, width, channels = self.info.input
        if batch.dtype != np.uint8 or batch.shape[1:] != self.info.input:
            raise UserError(
                f"{self.name}: pictures of {batch.dtype}, {' × '.join(map(str, np.shape(pictures)))} "
                f"(it takes uint8, {height} × {width} × {channels}, or several: N × …)"
            )
        if batch.strides[3] != 1 or batch.strides[2] != channels or batch.strides[1] < width * channels:
            batch = np.ascontiguousarray(batch)
        logits = np.empty((len(batch), self.info.outputs), np.float32)
        row, picture, out = batch.strides[1], batch.ctypes.data, logits.ctypes.data
        room = self._take(self.threads if threads is None else _threads(threads))
        for number in range(len(batch)):
            room.run(self.address, picture + number * batch.strides[0], row, out + number * logits.strides[0])
        self._give_back(room)
        return logits if np.ndim(pictures) == 4 else logits[0]

    def predict(
        self, pictures: Picture | Sequence[Picture], top: int = 5, threads: int | None = None
    ) -> list[Any]:
        """Say what is on a picture.

        Parameters
        ----------
        pictures : path, bytes, PIL image, uint8 array (H, W, 3), open binary file; or a list of these
        top : int
            How many answers, at most as many as there are classes.
        threads : int, optional
            As for :meth:`run`.

        Returns
        -------
        list of (str, float)
            The most probable classes with their probabilities, from 0 to 1. Of a list of pictures: a list
            of such lists.

        Raises
        ------
        squeezekit.errors.UserError
            A picture cannot be read.

        Examples
        --------
        >>> model.predict("cat.jpg", top=1)  # doctest: +SKIP
        [('tabby', 0.71)]
        """
        from squeezekit.data.picture import open_picture

        if isinstance(pictures, (list, tuple)) or getattr(pictures, "ndim", 0) == 4:
            return [self._answer(open_picture(each, i)[1], top, threads) for i, each in enumerate(pictures)]  # type: ignore[arg-type]
        return self._answer(open_picture(pictures)[1], top, threads)  # type: ignore[arg-type]

    def _answer(self, image: Any, top: int, threads: int | None) -> list[tuple[str, float]]:
        logits = self.run(self.preparation.geometry(image), threads).astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-logits, kind="stable")[: max(0, top)]
        return [(self.names[i], float(shares[i])) for i in best]

    def steps(self) -> list[Step]:
        """List what a run does, one after the other."""
        found: list[Step] = []
        operators = names("operator")
        for i in range(self.info.steps):
            head = StepHead()
            check(library().sqz_step_info(self.address, i, byref(head)), f"step {i}")
            shape = (head.height, head.width, head.channels)
            found.append(Step(head.name.decode(errors="replace"), operators[head.op], shape, head.macs))
        return found

    def _take(self, threads: int) -> Room:
        """Take memory for a run that nobody else uses."""
        while self._free:
            try:
                room = self._free.pop()
            except IndexError:  # another thread was quicker
                break
            if room.threads == threads and room.usable:
                return room
        return self.room(threads)

    def room(self, threads: int = 1) -> Room:
        """Give memory for a run."""
        return Room(self.info.activations, self.info.scratch, threads)

    def _give_back(self, room: Room) -> None:
        if len(self._free) < _KEPT_ROOMS:
            self._free.append(room)


def load(
    file: str | os.PathLike[str] | bytes | BinaryIO, *, threads: int = 1, isa: str | None = None
) -> Model:
    """Open a ``.sqz`` file to run the network in it.

    Parameters
    ----------
    file : path, bytes or open binary file
    threads : int
        That share a run, from 1 to 256. Each should have a core of its own.
    isa : {"best", "scalar", "avx2", "avx512"}, optional
        Which kernels compute; by default what the environment variable SQUEEZEKIT_ISA says, or the best that
        the processor has. All give the same bits.

    Returns
    -------
    Model

    Raises
    ------
    UserError
        The file cannot be read, is damaged, or holds a float32 network; or the processor has no such kernels.

    Examples
    --------
    >>> model = load("model.sqz")  # doctest: +SKIP
    >>> model.run(np.zeros((224, 224, 3), np.uint8)).shape  # doctest: +SKIP
    (1000,)
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        data, name = bytes(file), "the file"
    elif isinstance(file, (str, os.PathLike)):
        data, name = read_bytes(file), os.fsdecode(file)
    elif hasattr(file, "read"):
        data, name = file.read(), str(getattr(file, "name", "the file"))
        if not isinstance(data, bytes):
            raise UserError(f"{name}: opened as text (open it in binary mode: 'rb')")
    else:
        raise UserError(f"load: {type(file).__name__} is no file (a path, bytes, or an open binary file)")
    try:
        return Model(data, name, threads, isa)
    except FloatFileError as error:
        raise FloatFileError(f"{name}: {error}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _open(data: bytes, isa: int) -> tuple[NDArray[np.uint8], int]:
    """Plan and decode a network: the memory that it lies in, and its address."""
    engine, size, needs, model = library(), c_size_t(), NeedsHead(), c_void_p()
    code = engine.sqz_workspace(data, len(data), byref(size))
    if code != OK:
        sections(data)  # says it with the version, or that the bytes are damaged, where that is why
        check(code)
    try:
        plan = aligned(size.value)
        code = engine.sqz_plan(byref(needs), data, len(data), isa, plan.ctypes.data, plan.size)
        if code == UNSUPPORTED:
            raise FloatFileError(
                "holds a float32 network, or none that takes pictures; the engine runs int8 networks "
                "(squeezekit evaluate runs it with PyTorch; squeezekit compress makes an int8 file)"
            )
        check(code)
        wanted = needs.model + needs.open + needs.activations + needs.scratch
        if wanted > _MOST_MEMORY:
            raise UserError(
                f"asks for {wanted / 1e9:,.1f} GB of memory (at most {_MOST_MEMORY / 1e9:.1f} GB are given)"
            )
        memory, more = aligned(needs.model), aligned(needs.open)
        code = engine.sqz_open(
            byref(model), memory.ctypes.data, memory.size, plan.ctypes.data, more.ctypes.data, more.size
        )
    except MemoryError:
        raise UserError(tell(LIMIT)) from None
    if code != OK:
        raise UserError(tell(code, "the weights"))
    assert model.value is not None
    return memory, model.value


def _isa(wanted: str | None) -> int:
    """Return the library's number of the kernels that were asked for."""
    variable = os.environ.get("SQUEEZEKIT_ISA", "")
    asked, where = (variable or "best", "SQUEEZEKIT_ISA") if wanted is None else (wanted, "isa")
    if asked not in ISA:
        raise UserError(f"{where}={asked}: no such kernels{suggest(asked, ISA)} (one of {', '.join(ISA)})")
    if not library().sqz_isa_available(ISA[asked]):
        raise UserError(f"{where}={asked}: not on this processor, or not in this build (best chooses)")
    return ISA[asked]


def _threads(threads: int) -> int:
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise UserError(f"threads={threads!r}: a whole number from 1 to {_MOST_THREADS}")
    if threads > 1 and not has_threads(library()):
        raise UserError(f"threads={threads}: this build of the library has no threads (threads=1)")
    return threads
