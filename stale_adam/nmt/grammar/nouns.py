"""Nouns by class; the classes keep sentences sensible: people eat food."""

from collections.abc import Iterable
from typing import NamedTuple

from stale_adam.nmt.grammar.tables import rows


class Noun(NamedTuple):
  """A noun. `weak`: der Junge, den Jungen. Without a plural it has '' there."""

  kind: str
  english: str
  english_plural: str
  gender: str
  german: str
  german_plural: str
  weak: bool

  @property
  def is_person(self) -> bool:
    return self.kind in _GROUPS['people']


# A class and its nouns: English (irregular plural after '/'), German, plural.
_NOUNS = """
child: child/children das Kind Kinder; girl das Mädchen Mädchen;
  boy der Junge Jungen weak
adult: woman/women die Frau Frauen; man/men der Mann Männer;
  teacher der Lehrer Lehrer; student der Student Studenten weak;
  doctor der Arzt Ärzte; nurse die Krankenschwester Krankenschwestern;
  neighbor der Nachbar Nachbarn weak; farmer der Bauer Bauern weak;
  waitress/waitresses die Kellnerin Kellnerinnen; guest der Gast Gäste;
  baker der Bäcker Bäcker; lady/ladies die Dame Damen
kin: mother die Mutter -; father der Vater -; aunt die Tante Tanten;
  sister die Schwester Schwestern; brother der Bruder Brüder;
  daughter die Tochter Töchter; son der Sohn Söhne; uncle der Onkel Onkel;
  grandmother die Großmutter -; friend der Freund Freunde
animal: dog der Hund Hunde; cat die Katze Katzen; horse das Pferd Pferde;
  cow die Kuh Kühe; bird der Vogel Vögel; pig das Schwein Schweine;
  mouse/mice die Maus Mäuse; bear der Bär Bären weak
food: apple der Apfel Äpfel; pear die Birne Birnen; egg das Ei Eier;
  cake der Kuchen Kuchen; soup die Suppe Suppen; roll das Brötchen Brötchen;
  potato/potatoes die Kartoffel Kartoffeln; sausage die Wurst Würste
drink: coffee der Kaffee -; tea der Tee -; juice der Saft -; milk die Milch -;
  lemonade die Limonade -; water das Wasser -; beer das Bier -
text: book das Buch Bücher; letter der Brief Briefe; novel der Roman Romane;
  newspaper die Zeitung Zeitungen; story/stories die Geschichte Geschichten;
  poem das Gedicht Gedichte; message die Nachricht Nachrichten
portable: key der Schlüssel Schlüssel; bag die Tasche Taschen;
  umbrella der Regenschirm Regenschirme; camera die Kamera Kameras;
  picture das Bild Bilder; knife/knives das Messer Messer
device: lamp die Lampe Lampen; radio das Radio Radios; clock die Uhr Uhren;
  computer der Computer Computer
furniture: chair der Stuhl Stühle; table der Tisch Tische
vehicle: car das Auto Autos; bicycle das Fahrrad Fahrräder
clothing: shirt das Hemd Hemden; coat der Mantel Mäntel; hat der Hut Hüte;
  jacket die Jacke Jacken; cap die Mütze Mützen
opening: door die Tür Türen; window das Fenster Fenster
room: kitchen die Küche Küchen; room das Zimmer Zimmer; office das Büro Büros
building: house das Haus Häuser; hotel das Hotel Hotels;
  library/libraries die Bibliothek Bibliotheken; museum das Museum Museen;
  church/churches die Kirche Kirchen; station der Bahnhof Bahnhöfe;
  restaurant das Restaurant Restaurants; school die Schule Schulen
open: garden der Garten Gärten; park der Park Parks; forest der Wald Wälder;
  village das Dorf Dörfer; town die Stadt Städte
"""
_GROUPS = {
  'people': ('child', 'adult', 'kin'),
  'thing': ('portable', 'device', 'furniture', 'vehicle'),
}


def _nouns() -> dict[str, Noun]:
  found = {}
  for line in _NOUNS.strip().replace('\n  ', ' ').splitlines():
    kind, _, text = line.partition(': ')
    for ((english, gender, german, plural, *weak),) in rows(text):
      english, _, irregular = english.partition('/')
      many = plural and (irregular or english + 's')
      noun = Noun(kind, english, many, gender, german, plural, bool(weak))
      found[english] = noun
  return found


NOUNS = _nouns()


def nouns(names: Iterable[str]) -> tuple[Noun, ...]:
  """Returns the nouns of the groups, classes and single nouns named."""
  found = []
  for name in names:
    kinds = _GROUPS.get(name, (name,))
    members = tuple(noun for noun in NOUNS.values() if noun.kind in kinds)
    found.extend(members or (NOUNS[name],))
  return tuple(found)
