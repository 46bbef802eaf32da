#include "tasks/keys.h"

namespace kvasir::tasks {
namespace {

constexpr std::string_view kNouns[] = {
    "acorn",    "actor",    "album",   "anchor",  "angle",   "ankle",   "apple",   "apron",
    "arch",     "arrow",    "artist",  "ash",     "attic",   "autumn",  "badge",   "baker",
    "balcony",  "ball",     "bamboo",  "banana",  "banner",  "barn",    "barrel",  "basin",
    "basket",   "beach",    "bean",    "bear",    "beard",   "bee",     "beetle",  "bell",
    "belt",     "bench",    "berry",   "bird",    "biscuit", "blade",   "blanket", "blossom",
    "boat",     "bone",     "book",    "boot",    "bottle",  "boulder", "bow",     "bowl",
    "box",      "branch",   "bread",   "breeze",  "brick",   "bridge",  "brook",   "broom",
    "brush",    "bucket",   "bud",     "buffalo", "bush",    "butter",  "button",  "cabin",
    "cabinet",  "cable",    "cactus",  "cake",    "camel",   "camera",  "canal",   "candle",
    "canoe",    "canvas",   "cape",    "captain", "card",    "carpet",  "carrot",  "cart",
    "castle",   "cat",      "cave",    "cedar",   "ceiling", "cellar",  "chain",   "chair",
    "chalk",    "chapel",   "cheese",  "cherry",  "chest",   "chimney", "church",  "circle",
    "clay",     "cliff",    "clock",   "cloth",   "cloud",   "clover",  "coach",   "coast",
    "coat",     "coffee",   "coin",    "collar",  "colour",  "column",  "comb",    "compass",
    "copper",   "coral",    "cord",    "corn",    "corner",  "cottage", "cotton",  "couch",
    "cousin",   "cow",      "crab",    "crane",   "cream",   "creek",   "crown",   "crystal",
    "cup",      "curtain",  "cushion", "dawn",    "deer",    "desert",  "desk",    "diamond",
    "dish",     "dock",     "dog",     "doll",    "donkey",  "door",    "dove",    "drawer",
    "dress",    "drum",     "duck",    "dust",    "eagle",   "ear",     "earth",   "echo",
    "elbow",    "elephant", "engine",  "evening", "eye",     "falcon",  "farm",    "farmer",
    "feather",  "fence",    "fern",    "ferry",   "field",   "fig",     "finger",  "fire",
    "fish",     "flag",     "flame",   "flask",   "flood",   "floor",   "flour",   "flower",
    "flute",    "fog",      "forest",  "fork",    "fort",    "fountain", "fox",    "frog",
    "frost",    "fruit",    "garden",  "gate",    "giant",   "ginger",  "glacier", "glass",
    "globe",    "glove",    "goat",    "gold",    "goose",   "grape",   "grass",   "gravel",
    "guitar",   "gull",     "hall",    "hammer",  "hand",    "harbour", "harp",    "hat",
    "hawk",     "hay",      "heart",   "hedge",   "helmet",  "heron",   "hill",    "honey",
    "hook",     "horn",     "horse",   "hotel",   "house",   "hunter",  "ice",     "ink",
    "iron",     "island",   "ivory",   "ivy",     "jacket",  "jar",     "jewel",   "judge",
    "jungle",   "kettle",   "key",     "king",    "kitchen", "kite",    "kitten",  "knife",
    "knight",   "knot",     "ladder",  "lake",    "lamb",    "lamp",    "lantern", "lark",
    "lawn",     "lead",     "leaf",    "leather", "lemon",   "letter",  "library", "lily",
    "lime",     "linen",    "lion",    "lobster", "lock",    "lodge",   "log",     "loom",
    "lute",     "magnet",   "manor",   "mantle",  "map",     "maple",   "marble",  "market",
    "marsh",    "mask",     "mast",    "meadow",  "medal",   "melon",   "mill",    "miner",
    "mint",     "mirror",   "mist",    "monk",    "monkey",  "moon",    "morning", "moss",
    "moth",     "mountain", "mouse",   "mud",     "museum",  "music",   "nail",    "napkin",
    "neck",     "needle",   "nest",    "net",     "night",   "nose",    "notebook", "nurse",
    "nut",      "oak",      "oar",     "ocean",   "olive",   "onion",   "orange",  "orchard",
    "otter",    "oven",     "owl",     "ox",      "oyster",  "paint",   "palace",  "palm",
    "panther",  "paper",    "parade",  "park",    "parrot",  "path",    "pea",     "peach",
    "pear",     "pearl",    "pebble",  "pen",     "pencil",  "pepper",  "piano",   "pie",
    "pig",      "pigeon",   "pilgrim", "pillar",  "pillow",  "pilot",   "pine",    "pipe",
    "pirate",   "planet",   "plank",   "plate",   "plough",  "plum",    "pocket",  "poem",
    "poet",     "pond",     "pony",    "porch",   "port",    "potato",  "pottery", "prairie",
    "prince",   "pump",     "puppet",  "quarry",  "queen",   "quill",   "quilt",   "rabbit",
    "raft",     "rail",     "rain",    "rainbow", "raven",   "razor",   "reef",    "ribbon",
    "rice",     "ring",     "river",   "road",    "robin",   "rock",    "roof",    "root",
    "rope",     "rose",     "ruby",    "rug",     "saddle",  "sail",    "sailor",  "salmon",
    "salt",     "sand",     "sandal",  "scarf",   "school",  "seal",    "seed",    "shadow",
    "shark",    "sheep",    "shell",   "shepherd", "shield", "ship",    "shirt",   "shoe",
    "shore",    "shovel",   "silk",    "silver",  "sister",  "skull",   "sky",     "sled",
    "slipper",  "smoke",    "snail",   "snake",   "snow",    "soap",    "sock",    "soldier",
    "song",     "soup",     "spade",   "spark",   "sparrow", "spear",   "spider",  "spoon",
    "spring",   "square",   "squirrel", "stable", "stage",   "stair",   "star",    "station",
    "statue",   "steam",    "steel",   "stone",   "stool",   "storm",   "stove",   "straw",
    "stream",   "street",   "string",  "sugar",   "summer",  "sun",     "swan",    "sword",
    "table",    "tailor",   "tea",     "teacher", "temple",  "tent",    "theatre", "thistle",
    "thorn",    "thread",   "throne",  "thumb",   "thunder", "ticket",  "tide",    "tiger",
    "tile",     "timber",   "tin",     "toad",    "tobacco", "tomato",  "torch",   "tower",
    "town",     "toy",      "trail",   "train",   "tree",    "trumpet", "trunk",   "tulip",
    "tunnel",   "turkey",   "turtle",  "umbrella", "uncle",  "valley",  "vase",    "veil",
    "velvet",   "vessel",   "village", "vine",    "violet",  "violin",  "wagon",   "wall",
    "walnut",   "walrus",   "wasp",    "watch",   "water",   "wave",    "wax",     "well",
    "whale",    "wheat",    "wheel",   "whistle", "widow",   "willow",  "window",  "wine",
    "wing",     "winter",   "wolf",    "wood",    "wool",    "wreath",  "yard",    "zebra"};

constexpr std::string_view kAdjectives[] = {
    "ancient", "bitter", "bold",   "brave",  "brief",  "bright", "broad",   "broken", "calm",
    "careful", "cheap",  "clean",  "clear",  "clever", "cold",   "cool",    "cruel",  "curious",
    "damp",    "dark",   "deep",   "dim",    "dry",    "dull",   "eager",   "early",  "empty",
    "exact",   "faint",  "fair",   "famous", "fast",   "fierce", "fine",    "firm",   "flat",
    "fond",    "fresh",  "gentle", "glad",   "grand",  "grave",  "great",   "green",  "happy",
    "harsh",   "heavy",  "hollow", "honest", "huge",   "humble", "idle",    "keen",   "kind",
    "large",   "late",   "light",  "lonely", "long",   "loud",   "loyal",   "lucky",  "mild",
    "modest",  "narrow", "neat",   "noble",  "odd",    "old",    "pale",    "patient", "plain",
    "polite",  "poor",   "proud",  "pure",   "quick",  "quiet",  "rapid",   "rare",   "rich",
    "rough",   "round",  "sad",    "safe",   "shy",    "silent", "slow",    "small",  "smooth",
    "soft",    "solid",  "steady", "steep",  "strange", "strong", "sweet",  "swift",  "tall",
    "tender",  "thick",  "thin",   "tidy",   "tiny",   "tired",  "vast",    "warm",   "weary",
    "wide",    "wild",   "wise",   "young"};

std::vector<std::string> words_of(KeySpace space) {
  std::vector<std::string> words;
  for (const std::string_view noun : kNouns)
    if (key_space(noun) == space) words.emplace_back(noun);
  return words;
}

std::string draw(Random& random, std::string_view alphabet, int count) {
  std::string drawn;
  for (int i = 0; i < count; ++i) drawn += alphabet[random.below(alphabet.size())];
  return drawn;
}

}  // namespace

std::span<const std::string_view> nouns() { return kNouns; }
std::span<const std::string_view> adjectives() { return kAdjectives; }

const std::vector<std::string>& key_words(KeySpace space) {
  static const std::vector<std::string> training = words_of(KeySpace::kTraining);
  static const std::vector<std::string> evaluation = words_of(KeySpace::kEvaluation);
  return space == KeySpace::kTraining ? training : evaluation;
}

std::string random_hex(Random& random, int digits) {
  return draw(random, "0123456789abcdef", digits);
}

std::string random_digits(Random& random, int digits) {
  return draw(random, "123456789", 1) + draw(random, "0123456789", digits - 1);
}

std::string random_capitals(Random& random, int letters) {
  return draw(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", letters);
}

std::string random_uuid(Random& random) {
  std::string uuid = random_hex(random, 36);
  for (const size_t place : {8, 13, 18, 23}) uuid[place] = '-';
  uuid[14] = '4';
  uuid[19] = draw(random, "89ab", 1)[0];
  return uuid;
}

std::string_view random_noun(Random& random) { return kNouns[random.below(std::size(kNouns))]; }

}  // namespace kvasir::tasks
