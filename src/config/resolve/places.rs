//! The section `paths`: what lies where, and what must not lie in each other.

use super::{Desk, SEGMENT, is_segment};
use crate::config::fault::KeyPath;
use crate::config::name::{self, Name, Refusal};
use crate::config::raw;
use crate::config::settings::{Output, Paths, Root};
use std::path::{Component, Path, PathBuf};

const NOT_WRITABLE: &str = "must be set to an absolute path: /var/lib/sprocket may not be written, and there is no \
                            HOME or XDG_STATE_HOME to choose by";

impl Desk<'_> {
    pub(super) fn paths(&mut self) -> Paths {
        let raw::Paths { roots, output, state } = &self.raw.paths;
        let found: Vec<_> = roots.iter().enumerate().map(|(place, root)| self.root(place, root)).collect();
        let output_local = self.folder("paths.output.local", &output.local, "output");
        let output = self.output(output, output_local);
        let state = self.folder("paths.state", state, "state");
        self.effective.paths.state = state.to_string_lossy().into_owned();
        let paths = Paths { roots: found, output, state };
        self.unique_roots(&paths);
        self.nesting(&paths);
        paths
    }

    fn root(&mut self, place: usize, root: &raw::Root) -> Root {
        let path = KeyPath::dotted("paths.roots").index(place);
        if !is_segment(&root.name) {
            self.complain(path.key("name"), SEGMENT);
        }
        self.uri(path.key("uri"), &root.uri);
        let local = self.local_path(path.key("local"), &root.local);
        Root { name: root.name.clone(), uri: root.uri.clone(), local }
    }

    fn output(&mut self, output: &raw::Output, local: PathBuf) -> Output {
        let uri = if output.uri.is_empty() {
            self.note("paths.output.uri", "from paths.output.local");
            name::file_uri(local.components().filter_map(|part| match part {
                Component::Normal(part) => Some(part),
                _ => None,
            }))
        } else {
            self.uri(KeyPath::dotted("paths.output.uri"), &output.uri);
            if output.local.is_empty() {
                let local = local.display();
                let warning =
                    format!("paths.output.uri is set, but paths.output.local is not: outputs go to {local}");
                self.warnings.push(warning);
            }
            output.uri.clone()
        };
        self.effective.paths.output.uri.clone_from(&uri);
        self.effective.paths.output.local = local.to_string_lossy().into_owned();
        Output { uri, local }
    }

    /// The folder that was written, or the one called `name` where the host keeps data.
    fn folder(&mut self, key: &str, text: &str, name: &str) -> PathBuf {
        if !text.is_empty() {
            return self.local_path(KeyPath::dotted(key), text);
        }
        self.note(key, "by what may be written");
        match &self.host.data_folder {
            Some(folder) => folder.join(name),
            None => {
                self.complain(KeyPath::dotted(key), NOT_WRITABLE);
                PathBuf::from("/")
            }
        }
    }

    /// An absolute path without detours, `.` and doubled slashes taken out.
    pub(super) fn local_path(&mut self, key: KeyPath, text: &str) -> PathBuf {
        let path = Path::new(text);
        let detour = path.components().any(|part| part == Component::ParentDir);
        if !path.is_absolute() || detour || text.contains('\0') {
            self.complain(key, "must be an absolute path on this machine, without `..` and `~`");
        }
        path.components().collect()
    }

    fn uri(&mut self, key: KeyPath, text: &str) {
        match Name::parse(text) {
            Ok(name) if name.has_user() => {
                self.complain(key, "must not hold a user name or password: it is shown and logged");
            }
            Ok(_) => {}
            Err(Refusal::Escapes(why)) => self.complain(key, format!("must not: it {why}")),
            Err(Refusal::NoName) => self.complain(
                key,
                "must be what the network calls the folder: nas://media/movies, smb://host/share, \
                 file:///mnt/x, \\\\host\\share or /mnt/x",
            ),
        }
    }

    fn unique_roots(&mut self, paths: &Paths) {
        for (place, root) in paths.roots.iter().enumerate() {
            let key = KeyPath::dotted("paths.roots").index(place);
            let earlier = || paths.roots.iter().take(place).enumerate();
            if let Some((first, _)) = earlier().find(|(_, other)| other.name == root.name) {
                self.complain(
                    key.key("name"),
                    format!("must be unique: paths.roots[{first}] has this name too"),
                );
            }
            if let Some((first, _)) = earlier().find(|(_, other)| same_uri(&other.uri, &root.uri)) {
                self.complain(
                    key.key("uri"),
                    format!("must be unique: paths.roots[{first}] is called so too"),
                );
            }
            if same_uri(&paths.output.uri, &root.uri) && paths.output.local != root.local {
                let local = paths.output.local.display();
                let expected = format!("must not be paths.output.uri as well, which means {local}");
                self.complain(key.key("uri"), expected);
            }
        }
    }

    fn nesting(&mut self, paths: &Paths) {
        let Paths { roots, output, state } = paths;
        if state.starts_with(&output.local) {
            let expected =
                format!("must not lie in paths.output.local ({}), which is served", output.local.display());
            self.complain(KeyPath::dotted("paths.state"), expected);
        }
        for (place, root) in roots.iter().enumerate() {
            let title = format!("paths.roots[{place}] ({})", root.name);
            if state.starts_with(&root.local) {
                self.warnings
                    .push(format!("paths.state lies in {title}: who may read the root may read the journal"));
            }
            if output.local.starts_with(&root.local) {
                self.warnings.push(format!("paths.output lies in {title}: outputs show up among its files"));
            } else if root.local.starts_with(&output.local) {
                self.warnings.push(format!("{title} lies in paths.output: a job may replace its files"));
            }
        }
    }
}

fn same_uri(one: &str, other: &str) -> bool {
    matches!((Name::parse(one), Name::parse(other)), (Ok(one), Ok(other)) if one.same(&other))
}
