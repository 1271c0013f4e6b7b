//! A profile written out in full, each value with where it comes from. The text is itself a profile that inherits nothing.

use std::fmt::{Display, Write as _};

use super::{Options, Places, Profile};

impl Profile {
    /// Returns the profile as TOML, with the place of every value in a comment. Patches and native folders are named
    /// by their absolute paths.
    pub fn to_toml(&self) -> String {
        let mut out = Writer { text: String::new(), places: &self.places };
        let _ = writeln!(out.text, "# profile {}, read from", self.name);
        for file in &self.files {
            let _ = writeln!(out.text, "#   {}", file.display());
        }
        for dir in &self.native {
            let _ = writeln!(out.text, "# with the configuration in {}", dir.display());
        }
        out.text.push_str("version = 1\n");
        out.maybe("description", self.description.as_ref());
        out.one("image", &self.image);
        out.one("backend", self.backend);
        out.list("trees", &self.trees);
        out.one("portage-profile", &self.portage_profile);
        out.one("arch", &self.arch);
        out.one("chost", &self.chost);
        out.one("method", self.method);
        out.maybe("cross-image", self.cross_image.as_ref());
        out.maybe("build-side", self.build_side.as_ref());
        out.list("use", &self.use_);
        out.list("accept-keywords", &self.accept_keywords);
        out.list("accept-license", &self.accept_license);
        out.list("features", &self.features);
        out.list("patches", &self.patches.iter().map(|dir| dir.display()).collect::<Vec<_>>());
        out.list("mirrors", &self.mirrors);
        out.one("key", &self.key);
        if let Some(epoch) = self.source_date_epoch {
            out.line("source-date-epoch", &epoch.to_string());
        }
        out.line("share", if self.share { "true" } else { "false" });
        out.table("flags", |out| {
            let flags = &self.flags;
            let all: [(&str, &Option<Options>); 7] = [
                ("cflags", &flags.cflags),
                ("cxxflags", &flags.cxxflags),
                ("fflags", &flags.fflags),
                ("fcflags", &flags.fcflags),
                ("ldflags", &flags.ldflags),
                ("rustflags", &flags.rustflags),
                ("goflags", &flags.goflags),
            ];
            for (key, options) in all {
                out.maybe(&format!("flags.{key}"), options.as_ref());
            }
            out.list("flags.cpu-flags", &flags.cpu_flags);
        });
        out.table("package", |out| {
            out.list("package.use", &self.package.use_);
            out.list("package.accept-keywords", &self.package.accept_keywords);
            out.list("package.license", &self.package.license);
            out.list("package.mask", &self.package.mask);
            out.list("package.unmask", &self.package.unmask);
            out.list("package.env", &self.package.env);
            out.list("package.provided", &self.package.provided);
            out.list("package.method", &self.package.method);
        });
        out.table("sets", |out| {
            for (name, atoms) in &self.sets {
                let atoms = atoms.iter().map(|atom| quoted(atom.as_str())).collect::<Vec<_>>().join(", ");
                out.line(&format!("sets.{name}"), &format!("[{atoms}]"));
            }
        });
        out.table("env", |out| {
            for (variable, value) in &self.env {
                out.one(&format!("env.{variable}"), value);
            }
        });
        out.table("rebuild", |out| {
            out.one("rebuild.archives", self.rebuild.archives);
            out.one("rebuild.tools", self.rebuild.tools);
        });
        out.table("isa", |out| {
            let _ = writeln!(out.text, "# packages may need {}", self.isa.target);
            if let Some(doubt) = &self.isa.target.doubt {
                let _ = writeln!(out.text, "# {doubt}");
            }
            out.maybe("isa.level", self.isa.level.as_ref());
            out.list("isa.features", &self.isa.features);
        });
        for (excused, place) in self.isa.exceptions.iter().zip(self.places.of("isa.exceptions")) {
            let _ = write!(out.text, "\n[[isa.exceptions]]  # {place}\n");
            let symbol = excused.symbol.as_ref().map(ToString::to_string);
            let all = [
                ("package", Some(excused.package.to_string())),
                ("file", Some(excused.file.to_string())),
                ("symbol", symbol),
                ("reason", Some(excused.reason.to_string())),
            ];
            for (key, value) in all {
                if let Some(value) = value {
                    let _ = writeln!(out.text, "{key} = {}", quoted(&value));
                }
            }
        }
        out.table("limits", |out| {
            let limits = &self.limits;
            for (key, value) in [
                ("cpus", limits.cpus.map(|cpus| cpus.to_string())),
                ("cpuset", limits.cpuset.as_ref().map(|list| quoted(&list.to_string()))),
                ("memory", limits.memory.map(|bytes| quoted(&size(bytes)))),
                ("swap", limits.swap.map(|bytes| quoted(&if bytes == 0 { "0".to_string() } else { size(bytes) }))),
                ("pids", limits.pids.map(|pids| pids.to_string())),
                ("io-weight", limits.io_weight.map(|weight| weight.to_string())),
                ("disk", limits.disk.map(|bytes| quoted(&size(bytes)))),
                ("time", limits.time.map(|time| quoted(&humantime::format_duration(time).to_string()))),
                ("silence", limits.silence.map(|time| quoted(&humantime::format_duration(time).to_string()))),
                ("idle", limits.idle.map(|time| quoted(&humantime::format_duration(time).to_string()))),
                ("yield", limits.gives_way.then(|| "true".to_string())),
            ] {
                if let Some(value) = value {
                    out.line(&format!("limits.{key}"), &value);
                }
            }
        });
        out.text
    }
}

struct Writer<'a> {
    text: String,
    places: &'a Places,
}

impl Writer<'_> {
    /// Writes a table's heading and what is in it, unless that is nothing.
    fn table(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        let _ = write!(self.text, "\n[{name}]\n");
        let filled = self.text.len();
        fill(self);
        if self.text.len() == filled {
            self.text.truncate(before);
        }
    }

    /// Writes `key = value  # place`; of a dotted key the table is the heading already.
    fn line(&mut self, key: &str, value: &str) {
        let place = match self.places.of(key) {
            [] => "not set: bindery's default".to_string(),
            places => places.join(", "),
        };
        let key = key.split_once('.').map_or(key, |(_, key)| key);
        // A name may hold a dot, which a bare key may not.
        let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let key = if bare { key.to_string() } else { quoted(key) };
        let _ = writeln!(self.text, "{key} = {value}  # {place}");
    }

    fn one(&mut self, key: &str, value: impl Display) {
        self.line(key, &quoted(&value.to_string()));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value.filter(|_| !self.places.of(key).is_empty()) {
            self.one(key, value);
        }
    }

    fn list<T: Display>(&mut self, key: &str, values: &[T]) {
        let places = self.places.of(key);
        match values {
            [] => {}
            // Written as a whole at one place, or each at its own.
            values if places.len() != values.len() || values.len() == 1 => {
                let values = values.iter().map(|value| quoted(&value.to_string())).collect::<Vec<_>>().join(", ");
                self.line(key, &format!("[{values}]"));
            }
            values => {
                let _ = writeln!(self.text, "{} = [", key.split_once('.').map_or(key, |(_, key)| key));
                for (value, place) in values.iter().zip(places) {
                    let _ = writeln!(self.text, "    {},  # {place}", quoted(&value.to_string()));
                }
                self.text.push_str("]\n");
            }
        }
    }
}

/// Returns text as TOML quotes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// Returns a size in the largest binary unit that loses nothing.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        // A size written in powers of ten: the only way to have such bytes, so kB divides it or a fraction did.
        None => format!("{}.{:09}kB", bytes / 1000, (bytes % 1000) * 1_000_000),
    }
}
