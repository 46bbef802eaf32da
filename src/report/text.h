#pragma once
// Text that goes into XML and HTML, how wide it is, and numbers as people read them.

#include <string>
#include <string_view>
#include <vector>

namespace kvasir::report {

// `text` with & < > " ' as entities. What XML cannot hold becomes U+FFFD: bytes that are no UTF-8,
// and control characters but tab and newline.
std::string escape_xml(std::string_view text);

// About how many pixels valid or invalid UTF-8 takes in a sans-serif font of `size` pixels; rather
// too many, as the font is the reader's.
double text_width(std::string_view text, double size);

// At most `width` pixels of the text, with an ellipsis where something is cut off.
std::string shortened(std::string_view text, double size, double width);

// The text in lines of at most `width` pixels, broken at spaces, or inside a word that is longer.
// At least one line.
std::vector<std::string> wrapped(std::string_view text, double size, double width);

enum class NumberStyle {
  kPlain,    // 0.25, 1,500, 2e-07
  kPercent,  // of a share: 0.25 is 25%
  kTokens,   // 65536 is 64K, 1,500 stays
  kWhole,    // as plain ones; axes name nothing between whole numbers
};

// As an axis shows a value; a difference of `step` can be told from none. NaN is "–".
std::string number_text(double value, double step, NumberStyle style);

// A share in percent with two digits, or one behind the point near 1: "0.45%", "12%", "99.7%".
std::string share_text(double share);

}  // namespace kvasir::report
