//! What instances are made from.

use barograph::ErrorKind;
use barograph::model::resource::Image;
use barograph::provider::Action;

use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("images");
    let Some((archive, name)) = bench.subject.archive().filter(|_| bench.can().import_images) else {
        report.absent("import");
        return;
    };
    let import = |archive: &str| Action::ImportImage {
        archive: archive.into(),
        location: Some(bench.location.clone()),
        name: Some("suite.local/image:1".into()),
    };
    let find = |name: &'static str| async move {
        bench.list::<Image>().await.items.into_iter().find(|image| image.name == name)
    };
    report.check(
        bench.list::<Image>().await.items.iter().any(|image| image.name == name),
        "the rig's is listed",
    );
    bench.done(&import(&archive)).await;
    let image = find("suite.local/image:1").await.expect("it is in the list");
    report
        .check(image.digest.is_some() && image.size_bytes.is_some_and(|size| size > 0), format!("{image:?}"));
    let mut spec = bench.subject.instance("suite-from");
    spec.image = Some("suite.local/image:1".into());
    let instance = bench.create(spec).await;
    report.check(
        bench.instance(&instance).await.image.as_deref() == Some("suite.local/image:1"),
        "it is made from it",
    );
    bench.remove(&instance).await;
    bench.done(&Action::DeleteImage { image: image.id.into() }).await;
    report.check(find("suite.local/image:1").await.is_none(), "it is gone");
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.tar");
    let whole = std::fs::read(&archive).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 3]).unwrap();
    for (path, kinds) in [
        ("/nonexistent.tar", [ErrorKind::NotFound, ErrorKind::Invalid]),
        (broken.to_str().unwrap(), [ErrorKind::Invalid, ErrorKind::Invalid]),
    ] {
        let (kind, text) = bench.refused(&import(path)).await;
        report.check(kinds.contains(&kind), format!("{path}: {kind}: {text}"));
    }
    report.check(find("suite.local/image:1").await.is_none(), "a broken archive leaves no image");
}
