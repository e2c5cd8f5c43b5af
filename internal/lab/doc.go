// Package lab is the place where Madang is tried under real conditions: network namespaces with NATs of every kind, links with delay and
// loss, processes inside them, and the program itself as an operator would start it. Only tests use it.
//
// A Lab is one small internet of its own: a public segment, and hosts on it, each directly or behind a router. Nothing in it can reach
// the machine's network, nor be reached from there. Packets are forwarded, translated and filtered by the kernel (iproute2 and nftables);
// package natprobe measures, by the words of RFC 4787, that the NATs behave as their names say. Delay, jitter, loss and rate come from
// package linkem, since not every kernel has netem. Package browser drives Chromium and Firefox inside or outside of a Namespace.
//
// All of it needs root, and the programs ip and nft. Where they are missing tests are skipped, but fail when CI is set: a test that is
// silently skipped in CI proves nothing.
package lab
