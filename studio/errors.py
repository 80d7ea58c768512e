"""Every error that Croquis raises on purpose.

CroquisError                its message is shown to the user as it stands
├── InvalidRequest          a value is outside its rule
│   ├── UnknownModel        no such key in assets/models.toml
│   └── UnknownScheduler    no such key in assets/schedulers.toml
├── NotFound                no such job or picture for this visitor
├── ModelUnavailable        the checkpoint cannot be had: removed, gated, or no connection
├── OutOfMemory             the device is too small, also for the smallest batch
├── Unsafe                  the safety check held a picture back
├── QueueFull               too many requests wait; says how long
├── StorageFailed           the disk or the database did not take it
└── Cancelled               the visitor stopped the job

A message says what is wrong, the rule and the value got, or what to do next. Anything
else that is raised is a bug: it is logged with its job id and shown as one plain sentence.
"""


class CroquisError(Exception):
    """Base of all errors whose message is meant for the user."""


class InvalidRequest(CroquisError):
    """A value of a request breaks its rule."""


class UnknownModel(InvalidRequest):
    """The model key is not in the catalogue."""


class UnknownScheduler(InvalidRequest):
    """The scheduler key is unknown, or the model does not work with it."""


class NotFound(CroquisError):
    """The job or picture does not exist, or belongs to another visitor."""


class ModelUnavailable(CroquisError):
    """The checkpoint could be found neither locally nor at any of its sources."""


class OutOfMemory(CroquisError):
    """The picture does not fit into the device's memory."""


class Unsafe(CroquisError):
    """The model's safety check held the picture back."""


class QueueFull(CroquisError):
    """The queue takes no more requests now."""


class StorageFailed(CroquisError):
    """The disk is full or the database does not answer."""


class Cancelled(CroquisError):
    """The visitor stopped the job."""
