//! Common English words, the most common first.

#[rustfmt::skip]
pub(super) const WORDS: [&str; 300] = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on",
    "not", "he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an", "they", "which",
    "one", "you", "were", "her", "all", "she", "there", "would", "their", "we", "him", "been", "has",
    "when", "who", "will", "more", "no", "if", "out", "so", "said", "what", "up", "its", "about", "into",
    "than", "them", "can", "only", "other", "new", "some", "could", "time", "these", "two", "may", "then",
    "do", "first", "any", "my", "now", "such", "like", "our", "over", "man", "me", "even", "most", "made",
    "after", "also", "did", "many", "before", "must", "through", "back", "years", "where", "much", "your",
    "way", "well", "down", "should", "because", "each", "just", "those", "people", "how", "too", "little",
    "state", "good", "very", "make", "world", "still", "own", "see", "men", "work", "long", "get", "here",
    "between", "both", "life", "being", "under", "never", "day", "same", "another", "know", "while", "last",
    "might", "us", "great", "old", "year", "off", "come", "since", "against", "go", "came", "right", "used",
    "take", "three", "states", "himself", "few", "house", "use", "during", "without", "again", "place",
    "around", "however", "home", "small", "found", "thought", "went", "say", "part", "once", "general",
    "high", "upon", "school", "every", "does", "got", "united", "left", "number", "course", "war", "until",
    "always", "away", "something", "fact", "water", "less", "public", "put", "think", "almost", "hand",
    "enough", "far", "took", "head", "yet", "government", "system", "set", "better", "told", "nothing",
    "night", "end", "why", "called", "find", "going", "look", "asked", "later", "point", "knew", "next",
    "city", "business", "case", "group", "give", "days", "young", "let", "room", "word", "within", "given",
    "order", "matter", "quality", "delivery", "garden", "kitchen", "window", "yellow", "mountain", "river",
    "forest", "market", "morning", "evening", "winter", "summer", "paper", "letter", "bridge", "engine",
    "battery", "copper", "silver", "wooden", "leather", "cotton", "bottle", "basket", "lantern", "candle",
    "blanket", "pillow", "carpet", "mirror", "ladder", "hammer", "compass", "journal", "notebook",
    "package", "parcel", "invoice", "discount", "balance", "account", "customer", "service", "support",
    "request", "answer", "question", "reason", "promise", "gift", "color", "surface", "corner", "middle",
    "double", "single", "broken", "gentle", "bright", "narrow", "quick", "silent", "heavy", "simple",
    "complete", "damaged", "returned", "replaced", "repaired", "shipped",
];

/// The syllables of names.
#[rustfmt::skip]
pub(super) const SYLLABLES: [&str; 64] = [
    "ka", "lo", "mi", "ren", "to", "sha", "bel", "dor", "fi", "gus", "hal", "in", "jo", "ker", "lan", "mar",
    "nel", "os", "pe", "quin", "ra", "sel", "tan", "ul", "va", "wil", "xan", "ya", "zor", "ber", "chi", "del",
    "em", "fra", "gor", "hen", "is", "jar", "kel", "lin", "mon", "nor", "ol", "pra", "rik", "sam", "tor", "un",
    "ver", "wen", "yor", "zel", "ari", "bru", "cla", "dan", "eli", "fur", "gre", "hu", "ike", "jul", "kri", "lee",
];
