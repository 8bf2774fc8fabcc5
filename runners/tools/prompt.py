"""The category `prompt`: fill templates, order chains, turn messages into another API's form, and keep prompts."""

from __future__ import annotations

from typing import Final

from runners.tools import message_format as message_formats
from runners.tools import prompt_library as library
from runners.tools import prompt_templates

prompt_build, prompt_chain = prompt_templates.prompt_build, prompt_templates.prompt_chain
message_format = message_formats.message_format
prompt_library = library.prompt_library
TOOLS: Final = (*message_formats.TOOLS, *prompt_templates.TOOLS, *library.TOOLS)
