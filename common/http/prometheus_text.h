// Prometheus' text format over the HTTP module (prometheus-cpp's own exposer is CivetWeb: LIBRARIES.md F10).
#pragma once

#include <memory>
#include <vector>

#include "common/http/http_server.h"
#include "prometheus/collectable.h"

namespace p2::http {

// Renders every collectable (a prometheus::Registry is one) at each scrape; one that is gone is left out.
Handler MetricsHandler(std::vector<std::weak_ptr<prometheus::Collectable>> collectables);

}  // namespace p2::http
