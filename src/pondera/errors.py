"""Every error that Pondera raises, as a tree:

    PonderaError
      BadInput            what was given cannot be used; the sentence names the mend
      ModelError          a model could not answer (the branch is dropped, never a vote)
        ModelUnavailable  it cannot be reached or loaded, or refuses for good (key, quota, unknown name)
        ContextOverflow   the conversation does not fit into the model's context
        Unsupported       the model or server cannot do what the strategy asks; names what still works
      WeightsError        a model's file: not found, cut, corrupt, no room for it
      Unaffordable        an op would need tokens that its `keep` sets aside
      CallFailed          a tool or a sandboxed program ended without an answer
      VerifierError       a verifier could not judge
      BranchesFailed      every branch failed; `causes` holds each error
      NoAnswer            the run was stopped before anything was offered
      LedgerError         the record cannot be written or read
        LedgerDrift       on replay, the strategy asked something else than what is recorded

    Stop (BaseException)  thrown into a strategy when no more ops will be answered: not for catching

A message is one sentence that says what is wrong and how to mend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PonderaError(Exception):
    """The base of all. `answer` is the best answer at hand when the error struck, where there was one."""

    answer: Any = None


class BadInput(PonderaError): ...


class ModelError(PonderaError): ...


class ModelUnavailable(ModelError): ...


class ContextOverflow(ModelError): ...


class Unsupported(ModelError): ...


class WeightsError(PonderaError): ...


class Unaffordable(PonderaError): ...


class CallFailed(PonderaError): ...


class VerifierError(PonderaError): ...


class BranchesFailed(PonderaError):
    """Every branch of an op failed."""

    def __init__(self, message: str, causes: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class NoAnswer(PonderaError): ...


class LedgerError(PonderaError): ...


class LedgerDrift(LedgerError): ...


class Stop(BaseException):
    """The runtime will answer no more ops of this run."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


# A branch that ends in one of these is dropped and recorded; anything else is a bug and ends the run.
BRANCH_ERRORS = (ModelError, Unaffordable, CallFailed, VerifierError, BranchesFailed)


def named(name: str, message: str) -> PonderaError:
    """An error of the tree by its class's name, as a ledger recorded it."""
    kind = globals().get(name, ModelError)
    return kind(message) if isinstance(kind, type) and issubclass(kind, PonderaError) else ModelError(message)
