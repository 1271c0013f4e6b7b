EAPI=8

ACCT_USER_HOME=/var/spool/cron

inherit acct-user

ACCT_USER_ID=16
ACCT_USER_GROUPS=( cron crontab )
ACCT_USER_HOME_PERMS=0750

acct-user_add_deps
