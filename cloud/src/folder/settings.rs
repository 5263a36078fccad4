//! What is known and kept of an instance before it is launched, and what it shows after.

use std::{fs, io::ErrorKind};

use domain::launch::instance_type::Needs;

use super::{
    faults::Call,
    instance_types::instance_type,
    place::{InCall, PlaceFolder, new_id},
    records::{InstanceRecord, Record, TemplateRecord},
};
use crate::{
    control::{ClientToken, CloudError, Owned, SERVER_TAG, Screenshot, TemplateSpec, TemplateVersion},
    files::write_json,
};

impl PlaceFolder {
    pub(super) fn launch_obstacles(
        &self,
        spec: &TemplateSpec,
        needs: &Needs,
    ) -> Result<Vec<String>, CloudError> {
        let cx = self.at(Call::DescribeSubnets);
        let launch = &spec.launch;
        let mut obstacles = Vec::new();
        match instance_type(&launch.instance_type) {
            Some(known) => obstacles.extend(known.lacks(needs)),
            None => obstacles.push(format!("there is no instance type {}", launch.instance_type)),
        }
        // What an earlier launch of the same server has is given back before this one.
        match cx.address(launch, spec.tags.get(SERVER_TAG)) {
            Ok(_) => {}
            Err(CloudError::Rejected { reason, .. }) => obstacles.push(reason),
            Err(other) => return Err(other),
        }
        Ok(obstacles)
    }

    pub(super) fn keep_template(&self, spec: TemplateSpec) -> Result<TemplateVersion, CloudError> {
        let cx = self.at(Call::CreateLaunchTemplate);
        let name = ClientToken(spec.name.clone());
        let mut record = cx.make(&self.templates(), &name, |_draft| {
            Ok(TemplateRecord {
                id: new_id("lt"),
                name: name.clone(),
                versions: vec![spec.clone()],
            })
        })?;
        if record.versions.last() != Some(&spec) {
            record.versions.push(spec);
            let file = self.templates().join(&record.id).join(TemplateRecord::FILE);
            cx.io(&file, write_json(&file, &record))?;
        }
        Ok(TemplateVersion {
            template: record.id,
            version: i64::try_from(record.versions.len()).unwrap_or(i64::MAX),
        })
    }

    pub(super) fn delete_template(&self, template: &Owned) -> Result<(), CloudError> {
        let cx = self.at(Call::DeleteLaunchTemplate);
        let folder = self.templates().join(cx.plain(&template.id)?);
        match cx.owned(&folder, template, TemplateRecord::resource)? {
            Some(_) => cx.remove(&folder),
            None => Ok(()),
        }
    }

    pub(super) fn console_text(&self, instance: &str) -> Result<String, CloudError> {
        let text = self.at(Call::GetConsoleOutput).shown(instance, "console.txt")?;
        Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
    }

    pub(super) fn screenshot(&self, instance: &str) -> Result<Option<Screenshot>, CloudError> {
        let shown = self
            .at(Call::GetConsoleScreenshot)
            .shown(instance, "screenshot.png")?;
        Ok(shown.map(|bytes| Screenshot {
            media_type: "image/png",
            bytes,
        }))
    }
}

impl InCall<'_> {
    /// What an instance's machine wrote, if it did.
    fn shown(self, instance: &str, name: &str) -> Result<Option<Vec<u8>>, CloudError> {
        let folder = self.place.instance_folder(self.plain(instance)?);
        let _: InstanceRecord = self.record(&folder)?;
        match fs::read(folder.join(name)) {
            Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(None),
            other => self.io(&folder, other).map(Some),
        }
    }
}
