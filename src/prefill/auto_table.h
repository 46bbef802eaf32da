#pragma once
// What `kvasir search auto` measured of a model, device by device, and the method that `--prefill
// auto` takes of it for a prompt. The file lies in the model's folder unless the option `file`
// names another:
//
//   {"schema": "kvasir-prefill-auto/1",
//    "devices": [{"device": "Xeon, 2 threads, bf16",
//                 "measurements": [{"length": 8192, "method": "tri_shape", "options": {},
//                                   "seconds": 0.4, "kl": 0.001, "questions": 8, "same": 8}]}]}

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::prefill {

inline constexpr const char* kAutoFile = "prefill_auto.json";

// One method on prompts of one length.
struct AutoMeasurement {
  int64_t length = 0;  // tokens
  MethodChoice method;
  double seconds = 0;               // to the first token
  double kl = 0;                    // of answer tokens to dense prefill, in nats, mean
  int64_t questions = 0, same = 0;  // asked; answered with the text that dense prefill gives
};

struct AutoDevice {
  std::string device;
  std::vector<AutoMeasurement> measurements;
};

struct AutoTable {
  std::vector<AutoDevice> devices;

  const AutoDevice* find(std::string_view device) const;
  AutoDevice& at(std::string_view device);  // made where it is not there
};

// Errors: kMalformed.
Result<AutoTable> parse_auto_table(std::string_view text, std::string_view origin);
std::string write_auto_table(const AutoTable& table);

// How a device is called in the file: the processor, its threads on the CPU, the number format.
std::string auto_device(std::string_view name, int threads, std::string_view dtype);

struct AutoChoice {
  MethodChoice method{"dense", {}};
  std::string reason;  // half a sentence
};

// The method for a prompt of `length` tokens: the fastest of those that, at the measured lengths on
// both sides of it, beat dense prefill, answered every question as it does and kept within `bound`
// of its distributions (KL in nats). Dense where there is none, and for prompts shorter than all
// that was measured or longer by more than a quarter.
AutoChoice choose_prefill(const AutoDevice& measured, int64_t length, double bound);

inline constexpr double kAutoBound = 0.05;  // nats

}  // namespace kvasir::prefill
