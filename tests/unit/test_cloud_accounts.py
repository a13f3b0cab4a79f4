"""What the environment says of accounts of Azure and Google, and what is told where it says too little."""

from __future__ import annotations

import pytest

from ctx_mcp.domain.errors import StoreUnusable
from ctx_mcp.store.cloud_accounts import read_azure_account, read_google_account

KEY = "c2VjcmV0"
AZURE_CASES: list[tuple[str, dict[str, str], dict[str, str], str | None]] = [
    (
        "the tool's variables",
        {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": KEY},
        {"account_name": "a", "account_key": KEY},
        None,
    ),
    (
        "the library's variables",
        {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCESS_KEY": KEY, "AZURE_ENDPOINT": "https://e/"},
        {"account_name": "a", "account_key": KEY},
        "https://e",
    ),
    ("an identity", {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_CLIENT_ID": "c"}, {"account_name": "a"}, None),
    ("the emulator", {"AZURE_STORAGE_USE_EMULATOR": "true"}, {}, None),
    (
        "a connection string of the portal",
        {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY};EndpointSuffix=core.example.net"
            ),
            "AZURE_STORAGE_ACCOUNT": "another",
        },
        {"account_name": "a", "account_key": KEY, "credential_type": "access_key"},
        "https://a.blob.core.example.net",
    ),
    (
        "one with the least in it",
        {"AZURE_STORAGE_CONNECTION_STRING": f"accountname=a; accountkey={KEY};"},
        {"account_name": "a", "account_key": KEY, "credential_type": "access_key"},
        "https://a.blob.core.windows.net",
    ),
    (
        "one with a signature",
        {
            "AZURE_STORAGE_CONNECTION_STRING": (
                "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D"
            )
        },
        {"account_name": "a", "sas_key": "sv=1&sig=x%3D", "credential_type": "sas_token"},
        "https://a.blob.core.windows.net",
    ),
    (
        "one of an emulator with a signature",
        {
            "AZURE_STORAGE_CONNECTION_STRING": (
                "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;SharedAccessSignature=sig=x"
            )
        },
        {"account_name": "devstoreaccount1", "sas_key": "sig=x", "credential_type": "sas_token"},
        "http://127.0.0.1:10000/devstoreaccount1",
    ),
    (
        "one of the emulator",
        {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"},
        {"use_emulator": "true"},
        None,
    ),
]


@pytest.mark.parametrize(("_", "variables", "config", "endpoint"), AZURE_CASES, ids=[case[0] for case in AZURE_CASES])
def test_an_account_of_azure_is_read_as_azures_tools_read_it(
    _: str, variables: dict[str, str], config: dict[str, str], endpoint: str | None
) -> None:
    assert read_azure_account(variables) == (config, endpoint)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "az:// needs the name of an account: set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT"),
        ({"AZURE_STORAGE_KEY": KEY}, "needs the name of an account"),
        ({"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "a-secret!"}, "key of the Azure account is no Base64"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=a-secret!"}, "is no Base64"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "a-secret!"}, "it is Name=value pairs, apart by semicolons"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=a-secret!"}, "names no account"),
    ],
)
def test_what_names_no_account_is_refused_without_what_it_says(variables: dict[str, str], says: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        read_azure_account(variables)
    assert says in caught.value.message
    assert "a-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("variables", "config", "endpoint"),
    [
        ({}, {}, None),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}, {}, None),
        (
            {"STORAGE_EMULATOR_HOST": "127.0.0.1:9023"},
            {"base_url": "http://127.0.0.1:9023", "skip_signature": "true", "bearer_token": "none"},
            "http://127.0.0.1:9023",
        ),
        (
            {"STORAGE_EMULATOR_HOST": "https://e/", "GOOGLE_APPLICATION_CREDENTIALS": "/key.json"},
            {"base_url": "https://e"},
            "https://e",
        ),
    ],
)
def test_an_emulator_of_google_is_asked_without_credentials_where_none_are_set(
    variables: dict[str, str], config: dict[str, str], endpoint: str | None
) -> None:
    assert read_google_account(variables) == (config, endpoint)
