\set buyer random(:first + 1, :last)
select * from wallet.make_payment(:buyer, :first, 0.01);
