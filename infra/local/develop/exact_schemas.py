"""The schemas of what is really answered, in the API's description.

Schemathesis imports this, which has a virtual environment of its own."""


def use_exact_schemas(document: dict) -> None:
    """Replaces the schemas of errors, which are as wide as generators of clients need them, by those of what is really
    answered: see EXACT in tests/src/openapi.rs."""
    for response in document["components"]["responses"].values():
        content = response["content"]
        for media_type, media in list(content.items()):
            media["schema"] = media.pop("x-exact-schema")
            if media["schema"] is False:
                del content[media_type]
