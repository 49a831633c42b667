// Package snapshot keeps file systems: it mounts layers, reads them without mounting, lends writable drafts and turns
// changes into tar.
//
// A layer is stored once, as its tar. An index beside it, an EROFS file system without data of its own, says where in the
// tar each file is: the kernel mounts the two together, and a [View] reads them without a mount. A [Draft] is a file
// system being written, [Changes] are made without one, and both leave as a layer.
//
// Whiteouts are ".wh." files in a tar and what overlayfs wants (a device 0:0, an attribute) in an index. Nothing
// outside this package knows either.
package snapshot
