"""The code version that a new collection begins with, and the plan of its fit where it has one."""

from bebr.config import Limits
from bebr.core.codes import CodeSpec
from bebr.encoding import BundleRegistry
from bebr.engine.collections.schema import FitPlan
from bebr.engine.collections.version import Version
from bebr.engine.requests import CollectionSettings, FitSettings
from bebr.engine.versions.fit_plan import make_plan
from bebr.errors import InvalidOption


def first_version(
    settings: CollectionSettings, bundles: BundleRegistry, limits: Limits
) -> tuple[Version, FitPlan | None]:
    """Raises InvalidOption, InvalidSpec, BundleNotFound, DamagedBundle. Reads files, so call it in a thread."""
    if settings.fit is not None:
        return _buffered(settings, settings.fit, bundles, limits)
    return (
        _raw(settings.code) if settings.bundle is None else _of_bundle(settings.bundle, settings.code, bundles)
    ), None


def _buffered(
    settings: CollectionSettings, fit: FitSettings, bundles: BundleRegistry, limits: Limits
) -> tuple[Version, FitPlan]:
    """Embeddings of a bundle's model, or those that the user brings, until the fit."""
    if settings.code is not None:
        raise InvalidOption("'code' does not apply with 'fit', which chooses the code", key="code")
    if settings.bundle is not None and fit.dims is None:
        bundle = bundles.get(settings.bundle)
        plan = _plan(fit, bundle.embedding_dims, limits)
        return Version.buffered(0, bundle.embedding_dims, bundle.id, bundle.fingerprint), plan
    if settings.bundle is None and fit.dims is not None:
        plan = _plan(fit, fit.dims, limits)
        return Version.buffered(0, fit.dims, None, None), plan
    raise InvalidOption(
        "a fit needs either a 'bundle' that makes the embeddings, or the 'dims' of your own embeddings", key="fit.dims"
    )


def _plan(fit: FitSettings, dims: int, limits: Limits) -> FitPlan:
    return make_plan(fit.bytes, fit.sample, dims, limits, rescore_bytes=fit.rescore_bytes, at="fit.")


def _raw(code: str | None) -> Version:
    if code is None:
        raise InvalidOption(
            "a collection needs a 'bundle', a 'code' such as '256x2' for codes of your own, or a 'fit' to your own "
            "embeddings",
            key="bundle",
        )
    spec = CodeSpec.parse(code)
    if spec.rescore is not None:
        raise InvalidOption(
            f"codes of your own have no rescore code, which only a binarizer can ask for: leave '/{spec.rescore}' out",
            key="code",
        )
    return Version.raw(0, spec)


def _of_bundle(bundle_id: str, code: str | None, bundles: BundleRegistry) -> Version:
    version = Version.of_bundle(0, bundles.get(bundle_id))
    if code is not None and CodeSpec.parse(code) != version.spec:
        raise InvalidOption(
            f"bundle '{bundle_id}' makes codes '{version.spec}', not '{code}'; leave 'code' out", key="code"
        )
    return version
