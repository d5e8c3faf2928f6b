"""What goes with what: the knowledge that keeps sentences from being silly."""

TENSES = {  # the tenses that suit a verb, by its aspect
  'event': ('progressive', 'present', 'past', 'modal'),
  # Nobody eats the same apple every day: the habit needs an indefinite object.
  'once': ('progressive', 'present', 'past', 'modal'),
  'rare': ('progressive', 'past', 'modal'),
  'point': ('past',),
  # Nobody wants to dream of a cow, or has to.
  'plain': ('progressive', 'present', 'past'),
  'sense': ('present', 'past', 'can'),
  'state': ('present',),
}

ATTRIBUTES = {  # the adjectives that suit a class of nouns
  kind: tuple(text.split())
  for kind, text in {
    'child': 'small young clever tired sick hungry friendly happy sad',
    'adult': 'old young clever tired sick friendly rich famous',
    'kin': 'clever tired sick friendly happy',
    'animal': 'big small old young black white brown hungry',
    'food': 'big small fresh delicious expensive cheap',
    'drink': 'cold fresh delicious expensive cheap',
    'text': 'new old long short interesting funny',
    'portable': 'new old big small black red beautiful expensive cheap',
    'device': 'new old big small black white beautiful expensive cheap',
    'furniture': 'new old big small brown white beautiful expensive cheap',
    'vehicle': 'new old big small red blue green beautiful expensive cheap',
    'clothing': 'new old red blue green black warm beautiful expensive cheap',
    'opening': 'big small old new white green',
    'room': 'big small dark quiet warm',
    'building': 'big small old new beautiful',
    'open': 'big small beautiful quiet',
  }.items()
}
COMPARISONS = {  # the adjectives that compare within a class
  'child': ('small', 'young', 'clever', 'friendly'),
  'adult': ('old', 'young', 'rich', 'clever', 'friendly'),
  'animal': ('old', 'young', 'beautiful'),
  'food': ('expensive', 'cheap', 'big', 'small'),
  'text': ('long', 'short', 'new', 'old', 'interesting'),
  'vehicle': ('expensive', 'cheap', 'new', 'old', 'beautiful'),
  'clothing': ('expensive', 'cheap', 'new', 'old', 'beautiful'),
  'building': ('big', 'small', 'old', 'new', 'beautiful'),
}

# Nobody writes an old book or builds an expensive table.
MAKING = ('write', 'paint', 'build', 'cook')
UNMADE = ('old', 'new', 'cheap', 'expensive', 'tired', 'sick')
# What people do in every weather, and what they do because of it.
WEATHERPROOF = ('work', 'play', 'sing', 'dance', 'go', 'drive', 'run', 'sit')
WEATHERPROOF += ('wait for', 'meet', 'visit', 'look for', 'paint', 'wash')
SHELTERED = ('sleep', 'play', 'sing', 'stay', 'eat', 'drink', 'cook', 'read')
SHELTERED += ('write', 'paint', 'visit', 'call', 'close')
# What others are sad or angry about.
SAD_VERBS = ('lose', 'cry', 'throw', 'sell')
# What one may call one's own.
OWNED = ('portable', 'device', 'vehicle', 'clothing', 'room', 'text')
# Pronouns that leave no doubt who is who: in 'sie sieht sie', 'sie' could be
# she or they.
OTHERS = {
  'I': ('he', 'she', 'you', 'they'),
  'we': ('he', 'she', 'you', 'they'),
  'he': ('I', 'we', 'she', 'you', 'they'),
  'she': ('I', 'we', 'he', 'you'),
  'they': ('I', 'we', 'he', 'you'),
  'you': ('I', 'we', 'he', 'she', 'they'),
}

# "She washes the coat because it is dirty": reasons that lie in the object.
OBJECT_REASONS = {
  'wash': ('dirty',),
  'repair': ('broken', 'old'),
  'throw away': ('broken', 'old'),
  'sell': ('old',),
  'buy': ('cheap',),
  'read': ('interesting', 'funny'),
}
# "The boy is eating because he is hungry": reasons that lie in the subject.
SUBJECT_REASONS = {
  'eat': ('hungry',),
  'drink': ('thirsty',),
  'sleep': ('tired', 'sick'),
  'cry': ('sad', 'tired'),
  'sing': ('happy',),
  'dance': ('happy',),
  'stay': ('sick', 'tired'),
}
