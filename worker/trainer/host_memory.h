// How this process keeps the memory that its tensors give back.
#pragma once

namespace p2::trainer {

// From now on malloc keeps freed memory for the next tensor instead of returning it to the system: a training step
// asks for the same sizes again and again, and every page that comes back from the system costs a fault. Blocks above
// 32 MiB still go back at once: kept, they leave gaps (a ninth more memory for the paper's model). One arena for all
// threads, so that what one freed another takes. Once, before threads allocate; nothing where malloc is not glibc's.
void KeepFreedMemory();

}  // namespace p2::trainer
