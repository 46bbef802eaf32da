#pragma once
// A summary for a terminal, and for machines.

#include <string>

#include "eval/summary.h"

namespace kvasir::eval {

// Of each suite, length and mode: methods by tasks, then methods by turns with what they cost.
std::string summary_tables(const Summary& summary, size_t width);

// {"rows": [...], "cells": [...]}: every cell with all of its figures.
std::string summary_json(const Summary& summary);

}  // namespace kvasir::eval
