"""jaxep COMMAND ...: what the command line does.

jaxep train --config NAME [--config.key=value ...]      trains, or goes on where a run stopped
jaxep sweep --config NAME --over KEY=V1,V2 [--seeds N]  trains once for each value and seed
jaxep compare RUN... [--out DIR]                        a table and a picture of several runs
jaxep evaluate RUN [--last] [--json FILE]               test loss and accuracy, class by class
jaxep show RUN [--image N] [--last] [--out FILE.png]    the states of a test image, as a picture

jaxep COMMAND --help tells the rest.
"""

import importlib
import sys
from collections.abc import Sequence

from jaxep import process
from jaxep.process import end
from jaxep.run import console
from jaxep.run.errors import UserError, did_you_mean

HELP = {"--help", "-h", "-help"}
# A file of jaxep/commands each, imported when it is asked for: `train` takes seconds.
COMMANDS = ("train", "sweep", "compare", "evaluate", "show")


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
        words: of the command line after the program's name; None: those of this process.
    """
    words = list(sys.argv[1:] if words is None else words)
    with process.sound_streams():
        if not words or words[0] in HELP:
            console.say(str(__doc__).rstrip())
            return
        if words[0] not in COMMANDS:
            hint = did_you_mean(words[0], COMMANDS)
            end(f"{words[0]}: must be one of {', '.join(COMMANDS)}{hint}")
        try:
            console.hint(f"jaxep {words[0]}: starting")
            command = importlib.import_module(f"jaxep.commands.{words[0]}")
            if HELP & set(words):
                console.say(str(command.__doc__).rstrip())
            else:
                getattr(command, words[0])(words[1:])
        except UserError as error:
            end(error, error.status)
        except KeyboardInterrupt:  # `train` and `sweep` note it, the others have nothing to save
            end("SIGINT: stopped", 130)


if __name__ == "__main__":
    main()
