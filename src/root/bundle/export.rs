//! A spec of ours for other OCI runtimes: the same step, in a root that is a folder and not an overlay.
//!
//! What changes: `root.path` is the folder `rootfs` of the bundle, and is written to; there is no mount on `/`; and the ids
//! of the range are mapped by `linux.uidMappings` and `gidMappings`, as other runtimes need to be told; and the system call
//! filter is written so that libseccomp takes it (`filter.rs`). All else stays: what only our sandbox does is in
//! annotations, which others pass over.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::root::bundle::filter::portable;

/// The folder in a bundle that is the root.
pub const ROOTFS: &str = "rootfs";

/// Returns the config.json of a bundle whose root is [`ROOTFS`] and belongs to the `count` ids from `uid` and `gid` on.
pub fn export(spec: &Spec, uid: u32, gid: u32, count: u32) -> Value {
    let mut spec = serde_json::to_value(spec).expect("a spec is plain data");
    spec["root"] = json!({"path": ROOTFS, "readonly": false});
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/");
    }
    for (name, start) in [("uidMappings", uid), ("gidMappings", gid)] {
        spec["linux"][name] = json!([{"containerID": 0, "hostID": start, "size": count}]);
    }
    spec["linux"]["seccomp"] = portable(&spec["linux"]["seccomp"]);
    spec
}
