"""Runs in its own process: pystac-client against the emulator; prints what it saw as JSON."""

import json
import sys
import urllib.parse
import urllib.request
import warnings

import pystac_client

warnings.simplefilter("ignore")  # pystac-client's own deprecations


def _token(ready: dict[str, str]) -> str:
    form = {
        "grant_type": "password",
        "username": ready["username"],
        "password": ready["password"],
        "client_id": "up42-api",
    }
    url = ready["auth_url"] + "/realms/public/protocol/openid-connect/token"
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data) as answer:
        return str(json.load(answer)["access_token"])


def main(ready: dict[str, str]) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {_token(ready)}"}
    client = pystac_client.Client.open(ready["api_url"] + "/v2/assets/stac/", headers=headers)
    items = list(client.search(limit=7).items())
    first = items[0]
    order_id = next(i.properties["up42-order:id"] for i in items if "up42-order:id" in i.properties)
    json_filter = {"op": "=", "args": [{"property": "order_id"}, order_id]}
    by_text = client.search(method="GET", filter=f"order_id = '{order_id}'").items()
    return {
        "items": [item.id for item in items],
        "by_id": [item.id for item in client.search(ids=[first.id]).items()],
        "by_json_filter": [item.id for item in client.search(filter=json_filter).items()],
        "by_text_filter": [item.id for item in by_text],
        "in_box": [item.id for item in client.search(bbox=[12.0, 52.0, 14.0, 53.0]).items()],
        "child": client.get_collection(first.collection_id).id,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
