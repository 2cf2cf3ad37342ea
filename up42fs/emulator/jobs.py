"""`/v2/processing/jobs`: the jobs whose results the storage holds (contract §14).

A job is as old as its first result. Its collection is that result's; all results are found by a
STAC search for the job.
"""

from __future__ import annotations

from typing import Any

from up42fs.emulator.clock import format_z
from up42fs.emulator.service import ApiError, Endpoint, ReceivedCall, json_response
from up42fs.emulator.stac_json import BASE as STAC_BASE
from up42fs.emulator.storage import EmulatedAsset
from up42fs.emulator.wire import Response

BASE = "/v2/processing/jobs"


def _jobs(call: ReceivedCall) -> dict[str, list[EmulatedAsset]]:
    """The results of each job, oldest first."""
    found: dict[str, list[EmulatedAsset]] = {}
    for asset in sorted(call.storage.assets.values(), key=lambda asset: asset.created_us):
        if asset.job_id is not None:
            found.setdefault(asset.job_id, []).append(asset)
    return found


def _render(call: ReceivedCall, job_id: str, results: list[EmulatedAsset]) -> dict[str, Any]:
    first = results[0]
    moment = format_z(first.created_us, 3)
    known = call.storage.collections_of_asset.get(first.id, [])
    root = f"{call.service.public_url}{STAC_BASE}/collections"
    return {
        "jobID": job_id,
        "processID": "pansharpening",
        "accountID": first.account_id,
        "workspaceID": first.workspace_id,
        "definition": {"inputs": {"title": "Sample"}},
        "results": {"collection": f"{root}/{known[0]}"} if known else None,
        "creditConsumption": None,
        "status": "successful",
        **dict.fromkeys(("created", "started", "finished", "updated"), moment),
    }


def _list(call: ReceivedCall) -> Response:
    wanted = (call.request.get("ids") or "").split(",")
    jobs = [
        _render(call, job_id, results)
        for job_id, results in _jobs(call).items()
        if wanted == [""] or job_id in wanted
    ]
    return json_response({"jobs": jobs, "links": []})


def _get(call: ReceivedCall) -> Response:
    job_id = call.params["id"]
    results = _jobs(call).get(job_id)
    if results is None:
        raise ApiError(404, f"Job {job_id} not found.")
    return json_response(_render(call, job_id, results))


ROUTES = (
    Endpoint("GET", BASE, "jobs.list", _list),
    Endpoint("GET", f"{BASE}/{{id}}", "jobs.get", _get),
)
