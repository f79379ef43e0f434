// A fake server, and the real p2ctl against it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/client/fake_server.h"
#include "tests/client/p2ctl/p2ctl_process.h"

namespace p2::testing {

class P2ctlTest : public ::testing::Test {
 protected:
  P2ctlResult P2ctl(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {}) {
    environment.insert({"P2_ADDR", server_.address()});
    return RunP2ctl(std::move(arguments), std::move(environment));
  }
  std::unique_ptr<P2ctlProcess> Start(std::vector<std::string> arguments) {
    return std::make_unique<P2ctlProcess>(std::move(arguments),
                                          std::map<std::string, std::string>{{"P2_ADDR", server_.address()}});
  }
  v1::Job State(const std::string& id) {
    v1::Job job;
    server_.With([&](FakeState& s) { job = s.jobs[absl::StrCat("jobs/", id)]; });
    return job;
  }

  FakeServer server_;
};

}  // namespace p2::testing
