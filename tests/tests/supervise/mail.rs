//! Messages between two lives.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use hr_ctrl::Gid;
use hr_ctrl::supervise::{Life, SendError, Supervise, WhileRestarting};

use super::cast::{Add, Counter, End, Way, row, site};

const GROUP: Gid = Gid(2);

/// A factory whose second life is made when the test says so: the actor is between two lives until then.
fn held(entered: Sender<()>, go: Receiver<()>) -> impl FnMut(&Life) -> Counter + Send {
    let go = Arc::new(Mutex::new(go));
    move |life| {
        if life.no().0 == 1 {
            entered.send(()).unwrap();
            go.lock().unwrap().recv().unwrap();
        }
        Counter::new(life)
    }
}

#[tokio::test]
async fn what_is_sent_between_two_lives_waits() {
    let site = site().await;
    let ((entered, is_entered), (go, wait)) = (channel(), channel());
    let how = Supervise::new("counter", GROUP).capacity(3);
    let addr = site.supervise(how, held(entered, wait)).await.unwrap();
    // Those behind the one that fails wait, too.
    let lost = addr.send(End(Way::Handler));
    let early = addr.send(Add);
    is_entered.recv().unwrap();
    let late = addr.send(Add);
    let last = addr.send(Add);
    assert_eq!(addr.send(Add).await, Err(SendError::Full { limit: 3 }));
    go.send(()).unwrap();
    assert_eq!(lost.await, Err(SendError::Lost));
    assert_eq!(early.await, Ok((1, 1)));
    assert_eq!(late.await, Ok((2, 1)));
    assert_eq!(last.await, Ok((3, 1)));
    site.halt().await.unwrap();
}

#[tokio::test]
async fn what_is_sent_between_two_lives_is_refused_where_that_was_chosen() {
    let site = site().await;
    let ((entered, is_entered), (go, wait)) = (channel(), channel());
    let how = Supervise::new("counter", GROUP).while_restarting(WhileRestarting::Refuse);
    let addr = site.supervise(how, held(entered, wait)).await.unwrap();
    let lost = addr.send(End(Way::Handler));
    let behind = addr.send(Add);
    is_entered.recv().unwrap();
    assert_eq!(addr.do_send(Add), Err(SendError::Restarting));
    assert_eq!(addr.send(Add).await, Err(SendError::Restarting));
    go.send(()).unwrap();
    assert_eq!(lost.await, Err(SendError::Lost));
    assert!(matches!(
        behind.await,
        Err(SendError::Lost | SendError::Restarting)
    ));
    row(&site, "counter", |row| {
        row.life == Some(1) && row.state == "running"
    })
    .await;
    // A life that is booked may still be on its way to its first line.
    let answer = super::cast::until("it answers", || async { addr.send(Add).await.ok() }).await;
    assert_eq!(answer, (1, 1));
    site.halt().await.unwrap();
}
