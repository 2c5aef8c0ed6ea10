"""Whether the sites carry the declared peak when any one of them is lost; plain arithmetic, nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infra.checks import SettingError


@dataclass(frozen=True, kw_only=True)
class SiteCapacity:
    """What one site is declared to be, as far as its capacity goes by it."""

    weight: int
    """Its share of the users, beside the others'."""
    firm_gpus: int
    """GPUs that are there with every pool at its minimum and no spot node left."""
    gpus_per_pod: int
    """0 where the CPU computes: then no pod waits for a GPU."""
    triton_replicas: int
    requests_per_second_per_pod: float
    gateway_replicas: int
    requests_per_second_per_gateway: float

    @property
    def firm_pods(self) -> int:
        """Model servers that run on GPUs nobody takes away."""
        if self.gpus_per_pod == 0:
            return self.triton_replicas
        return min(self.triton_replicas, self.firm_gpus // self.gpus_per_pod)

    @property
    def requests_per_second(self) -> float:
        """What the site can be counted on for: model servers or gateways, whichever carry less."""
        return min(
            self.firm_pods * self.requests_per_second_per_pod,
            self.gateway_replicas * self.requests_per_second_per_gateway,
        )

    @property
    def limit(self) -> str:
        """What keeps it from more, in words, with the settings to change."""
        if self.requests_per_second < self.firm_pods * self.requests_per_second_per_pod:
            return (
                f"{self.gateway_replicas} gateways x {self.requests_per_second_per_gateway:g}/s: raise gateway_replicas"
            )
        pods = f"{self.firm_pods} Triton pods x {self.requests_per_second_per_pod:g}/s"
        if self.firm_pods < self.triton_replicas:
            return (
                f"{pods}, for {self.firm_gpus} firm GPUs hold no more of {self.gpus_per_pod} each: raise min of a pool"
                " that is not spot"
            )
        return f"{pods}: raise triton_replicas"


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """One site that cannot carry what it would get when another is lost."""

    lost: str
    site: str
    requests_per_second: float
    """What it would get."""
    capacity: SiteCapacity

    def __str__(self) -> str:
        return (
            f"without {self.lost}, {self.site} gets {self.requests_per_second:g}/s and carries"
            f" {self.capacity.requests_per_second:g}/s ({self.capacity.limit})"
        )


def shares(weights: Mapping[str, int]) -> dict[str, float]:
    """Each site's share of the users, as weighted records give it to sites that are all well."""
    # Route 53 takes records of weight 0 only when no other is healthy, and then all of them alike.
    counted = weights if any(weights.values()) else dict.fromkeys(weights, 1)
    together = sum(counted.values())
    return {site: weight / together for site, weight in counted.items()}


def shortfalls(peak: float, sites: Mapping[str, SiteCapacity]) -> Iterator[Shortfall]:
    """Every site that could not carry its share of `peak` after the loss of one other; none for a peak of 0."""
    for lost in sorted(sites):
        left = {site: sites[site].weight for site in sorted(sites) if site != lost}
        for site, share in shares(left).items():
            if peak * share > sites[site].requests_per_second:
                yield Shortfall(lost=lost, site=site, requests_per_second=peak * share, capacity=sites[site])


def check(peak: float, sites: Mapping[str, SiteCapacity]) -> None:
    """Raise SettingError unless the sites minus any one carry `peak` requests/s on firm capacity."""
    if peak and len(sites) < 2:
        raise SettingError(
            f"peak_requests_per_second is {peak:g} and {', '.join(sites)} is the only site; with it everything is lost:"
            " add a site, or set the peak to 0 to promise none"
        )
    found = list(shortfalls(peak, sites))
    if found:
        raise SettingError(
            f"peak_requests_per_second is {peak:g}; the sites minus any one carry it on capacity that nobody takes"
            f" away, but {'; '.join(map(str, found))}: make what is named larger, or declare a smaller peak"
        )
