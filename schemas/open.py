"""Which schema store the settings ask for; its client is loaded here, and only then."""

from taskstream.broker.embedded import directory
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.schemas.log import LoggedSchemas
from taskstream.schemas.store import SchemaStore


def open_schemas(settings: Settings, names: Names) -> SchemaStore:
    """The store of these settings, open for use.

    A registry where `schema_registry_url` is set, a file in the embedded mode, whose broker forgets
    everything when it ends, and the app's schema topic otherwise.

    Raises:
        MissingExtra: the registry's client is not installed.
        ConfigError: no broker is configured, or the registry's URL can't be read.
    """
    settings.require_broker()
    if settings.schema_registry_url:
        from taskstream.schemas.registry import RegistrySchemas  # noqa: PLC0415 - rarely needed

        return RegistrySchemas(settings.schema_registry_url)
    if settings.embedded:
        from taskstream.schemas.sqlite import FileLog  # noqa: PLC0415 - rarely needed

        return LoggedSchemas(FileLog(directory(settings) / f"{names.app}.schemas.sqlite"))
    from taskstream.schemas.topic import TopicLog  # noqa: PLC0415 - loads the Kafka client

    return LoggedSchemas(TopicLog(settings, names.schemas))
