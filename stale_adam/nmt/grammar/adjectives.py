"""Adjectives: German, comparative, and the stem that endings follow."""

from typing import NamedTuple

from stale_adam.nmt.grammar.tables import Pair, rows


class Adjective(NamedTuple):
  """An adjective: teuer, but ein teures Buch, with the stem 'teur'."""

  german: str
  stem: str
  comparative: Pair | None


# English, its comparative if we use it | German, its comparative, its stem
# before endings if that differs.
_ADJECTIVES = """
  big bigger | groß größer; small smaller | klein kleiner;
  old older | alt älter; young younger | jung jünger;
  new newer | neu neuer; long longer | lang länger;
  short shorter | kurz kürzer; clever cleverer | klug klüger;
  cheap cheaper | billig billiger; rich richer | reich reicher;
  expensive more_expensive | teuer teurer teur;
  beautiful more_beautiful | schön schöner;
  interesting more_interesting | interessant interessanter;
  friendly friendlier | freundlich freundlicher;
  famous | berühmt; funny | lustig; red | rot; blue | blau; green | grün;
  white | weiß; black | schwarz; brown | braun; fresh | frisch; cold | kalt;
  warm | warm; delicious | lecker; dark | dunkel - dunkl; quiet | ruhig;
  dirty | schmutzig; broken | kaputt; sick | krank; hungry | hungrig;
  tired | müde - müd; thirsty | durstig; happy | glücklich; sad | traurig;
  angry | wütend; surprised | überrascht
"""


def _adjective(english: list[str], german: list[str]) -> Adjective:
  _, *comparatives = english
  positive, comparative, stem = (*german, '', '')[:3]
  compared = Pair(*comparatives, comparative) if comparatives else None
  return Adjective(positive, stem or positive, compared)


ADJECTIVES = {row[0][0]: _adjective(*row) for row in rows(_ADJECTIVES)}
